"""The backbones and what they cost, as a table; counted from the graph, nothing is trained.

    python tools/list_backbones.py [--out docs/backbones.md]

Every registered backbone at 32 pixels with 10 classes and at 224 pixels with 1000, by
`bitat_tf.count`. Takes about half a minute.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bitat_tf import Counts, count, models
from bitat_tf._keras import keras
from bitat_tf.files import write_text

TOOL = "list_backbones.py"

# (pixels, classes): CIFAR-10's and ImageNet's
SIZES = ((32, 10), (224, 1000))

# A transform is training state that counts nothing, and large ones take long to make.
MAX_BLOCK = 32

HEADER = (
    "| backbone | pixels | classes | binary convolutions | parameters, M | 1-bit | BOPs, M "
    "| FLOPs, M | OPs, M | MiB |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)

TEXT = """# The backbones

`bitat.models.build(NAME, classes=..., width=..., input_size=..., binary=...)` makes each of
them, binary or as its float twin. What they cost, by

```
python tools/list_backbones.py
```

{table}

*Parameters* are what ships, thresholds and slopes included; *1-bit* is the share of them in binary
convolutions. *BOPs* and *FLOPs* are multiply-accumulates of one image in binary and in float;
*OPs* = BOPs / 64 + FLOPs, the field's measure. *MiB* is what the parameters take on the device; a
flatbuffer holds its graph besides. None of this is a latency.

## What they are, and where they differ from the published ones

- `mobilenet_v1_react`: ReActNet-A ([arXiv 2003.03488](https://arxiv.org/abs/2003.03488)): 29.3 M
  parameters, 87 M OPs, as published. `mobilenet_v1_react_nano` is a small relative of it for
  experiments.
- `mobilenet_v2`: MobileNetV2 ([arXiv 1801.04381](https://arxiv.org/abs/1801.04381)) with binary
  pointwise convolutions and float depthwise ones. The arrangement of signs and shortcuts is this
  project's own: an expansion's shortcut is its input, repeated; blocks that change their shape
  have a float 1x1 convolution in their shortcut, 13.1 of the 45.9 M FLOPs at 224 pixels. Without
  these shortcuts, thresholds and slopes it has the published 3,504,872 parameters and 301 MMAC.
  `mobilenet_v2_nano` has the channels and strides of the other nano.
- `resnet18`: Bi-Real's form ([arXiv 1808.00278](https://arxiv.org/abs/1808.00278)) with ReActNet's
  thresholds and activations. Without those, the 11,689,512 parameters of ResNet-18. 163.99 M
  OPs, which the paper writes as 163 M.
- `resnet20`: the same form of the ResNet-20 for CIFAR-10
  ([arXiv 1512.03385](https://arxiv.org/abs/1512.03385)), 269,722 parameters; its shortcuts have no
  weights where shapes change, ours have 2,752.
- `quicknet`: for latency first, after QuickNet
  ([arXiv 2011.09398](https://arxiv.org/abs/2011.09398)): nothing but additions on the shortcut.
  larq-zoo's has 13,234,088 parameters in 4.17 MiB; ours has those and 3,840 thresholds, which can
  be folded away. It has no ReLU behind its binary convolutions, larq-zoo's has.

At 32 pixels the stems keep the image's size (3x3, stride 1); from 64 pixels on they are the
published ones. `stem_stride` chooses otherwise.
"""


def row(name: str, size: int, classes: int, counts: Counts) -> str:
    """A backbone's line of the table."""
    convolutions = sum(layer.binary for layer in counts.layers)
    cells = [
        f"`{name}`",
        size,
        classes,
        convolutions,
        f"{counts.parameters / 1e6:.3f}",
        f"{100 * counts.binary_parameters / counts.parameters:.1f} %",
        f"{counts.binary_macs / 1e6:,.1f}",
        f"{counts.float_macs / 1e6:,.2f}",
        f"{counts.ops / 1e6:,.2f}",
        f"{counts.size_bytes / 2**20:.2f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def rows(names: Sequence[str]) -> list[str]:
    """The lines of these backbones, at every size."""
    made = []
    for name in names:
        for size, classes in SIZES:
            model = models.build(name, classes=classes, input_size=size, max_block=MAX_BLOCK)
            made.append(row(name, size, classes, count(model)))
            keras.backend.clear_session()
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/backbones.md"))
    arguments = parser.parse_args(argv)
    table = "\n".join([HEADER, *rows(models.names())])
    try:
        write_text(arguments.out, TEXT.format(table=table))
    except OSError as err:
        print(f"{TOOL}: {err}", file=sys.stderr)
        return 2
    print(table)
    print(f"Written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

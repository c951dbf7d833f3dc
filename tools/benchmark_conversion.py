"""Our conversion against `lce.convert_keras_model` of the same network, in one run.

    python tools/benchmark_conversion.py [--out docs/results]

ReActNet-A's shapes (32 px with 10 classes, 224 px with 1000; widths 0.25 and 0.5) with random
parameters as training may leave them: operators in all and by type, size, the values that the
operators around the binary convolutions write, and this host's latency, timed A B A B. int8
ends are calibrated on noise: of them size and time mean something here, accuracy is measured by
`measure_ends.py`. A table goes to OUT/conversion.md. Takes about 5 minutes on two cores, which
should have nothing else to do.
"""

import argparse
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from command_line import shown_command

from bitat_tf import convert, machine, models
from bitat_tf._keras import keras, quiet_import
from bitat_tf.files import write_text
from bitat_tf.layers import RPReLU, RSign
from bitat_tf.quiet import held_stderr
from bitat_tf.results import AuditReport
from bitat_tf.runtime import Runner

with quiet_import():  # behind bitat_tf, which chooses the Keras that both use
    import larq_compute_engine as lce

NAME = "conversion.md"
PLAIN, FOLDED, INT8 = "lce.convert_keras_model", "bitat_tf", "bitat_tf, int8 ends"
CALIBRATION_IMAGES = 8


@dataclass(frozen=True)
class Shape:
    """One network: input side in pixels, width, classes."""

    input_size: int
    width: float
    classes: int

    def __str__(self) -> str:
        return f"{self.input_size} px, width {self.width:g}"


SHAPES = tuple(
    Shape(size, width, classes)
    for size, classes in ((32, 10), (224, 1000))
    for width in (0.25, 0.5)
)


@dataclass(frozen=True)
class Row:
    """One flatbuffer of one shape.

    Attributes:
        shape, converter: what it is of, and who made it.
        audit: of the flatbuffer.
        latency_ms: times of single inferences, in the order they were taken.
        ratios: each divided by the time the plain one took in the same turn.
    """

    shape: Shape
    converter: str
    audit: AuditReport
    latency_ms: tuple[float, ...]
    ratios: tuple[float, ...]


def student(shape: Shape, seed: int = 0) -> Any:
    """The network with gammas of both signs and shifts away from zero."""
    keras.utils.set_random_seed(seed)
    model = models.build(
        "mobilenet_v1_react",
        input_size=shape.input_size,
        width=shape.width,
        classes=shape.classes,
    )
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            gamma = rng.uniform(0.5, 1.5, size) * rng.choice([-1, 1], size)
            rest = rng.normal(size=size), rng.normal(size=size), rng.uniform(0.5, 2, size)
            layer.set_weights([gamma, *rest])
        elif isinstance(layer, RSign | RPReLU):
            for weight in layer.trainable_weights:
                weight.assign(rng.normal(scale=0.3, size=weight.shape))
    return model


def flatbuffers(shape: Shape) -> dict[str, bytes]:
    """The network converted in each way."""
    model = student(shape)
    size = (CALIBRATION_IMAGES, shape.input_size, shape.input_size, 3)
    images = np.random.default_rng(1).normal(size=size).astype(np.float32)
    with held_stderr("^"):  # what LCE's converter has to say is shown by no one but an error
        plain = lce.convert_keras_model(convert.strip(model))
    return {
        PLAIN: plain,
        FOLDED: convert.export(model),
        INT8: convert.export(model, ends="int8", calibration_images=images),
    }


def measure(shape: Shape, *, warmup: int, repeats: int) -> list[Row]:
    """All flatbuffers of one shape, timed in turn."""
    contents = flatbuffers(shape)
    runners = {name: Runner(content) for name, content in contents.items()}
    noise = np.random.default_rng(0).normal(size=(1, *runners[PLAIN].input_shape))
    image = noise.astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in runners}
    for repeat in range(warmup + repeats):
        for name, runner in runners.items():
            start = time.perf_counter_ns()
            runner.invoke(image)
            if repeat >= warmup:
                times[name].append((time.perf_counter_ns() - start) / 1e6)
    return [
        Row(
            shape,
            name,
            convert.audit(content),
            tuple(times[name]),
            tuple(t / base for t, base in zip(times[name], times[PLAIN], strict=True)),
        )
        for name, content in contents.items()
    ]


def summary(rows: Sequence[Row]) -> list[str]:
    """The main table, one line a flatbuffer."""
    lines = [
        "| shape | converter | operators | ADD | KiB | host ms | ratio (10 % to 90 %) |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        low, middle, high = np.quantile(row.ratios, (0.1, 0.5, 0.9))
        ratio = "1" if row.converter == PLAIN else f"{middle:.3f} ({low:.3f} to {high:.3f})"
        counts = Counter(op.type for op in row.audit.ops)
        lines.append(
            f"| {row.shape} | {row.converter} | {len(row.audit.ops)} | {counts['ADD']} | "
            f"{row.audit.size_bytes / 1024:.1f} | {statistics.median(row.latency_ms):.3f} | "
            f"{ratio} |"
        )
    return lines


def by_type(rows: Sequence[Row]) -> list[str]:
    """Operators by type of one shape, with the values that they write."""
    counted = [_by_type(row.audit) for row in rows]
    lines = [
        f"| operator | {' | '.join(row.converter for row in rows)} |",
        f"| --- | {' | '.join('---:' for _ in rows)} |",
    ]
    kinds = {kind for counts in counted for kind in counts}
    for kind in sorted(kinds, key=lambda kind: -max(c.get(kind, (0, 0))[1] for c in counted)):
        cells = [f"{n} ({v:,})" if n else "" for n, v in (c.get(kind, (0, 0)) for c in counted)]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def _by_type(audit: AuditReport) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for op in audit.ops:
        number, values = counts.get(op.type, (0, 0))
        counts[op.type] = (number + 1, values + math.prod(op.output_shape))
    return counts


def page(rows: Sequence[Row], command: str, repeats: int) -> str:
    """Everything as Markdown."""
    lines = [
        "# Our conversion against LCE's own",
        "",
        f"Made by `{command}` on {machine.describe()}.",
        "",
        "The same networks, ReActNet-A's shapes with random parameters, converted by plain "
        "`lce.convert_keras_model` and by `bitat_tf.convert.export`. Latency is this host's "
        f"(x86, LCE's indirect kernel with XNNPACK, 1 thread, {repeats} inferences of each, in "
        "turn; the ratio is taken turn by turn) and **says nothing about phones**.",
        "",
        *summary(rows),
    ]
    for shape in dict.fromkeys(row.shape for row in rows):
        lines += ["", f"## {shape}: operators (values they write)", ""]
        lines += by_type([row for row in rows if row.shape == shape])
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="our conversion against LCE's own")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="the smallest shape, few inferences")
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(given)
    shapes = SHAPES[:1] if arguments.quick else SHAPES
    repeats = 5 if arguments.quick else arguments.repeats
    rows = [
        row for shape in shapes for row in measure(shape, warmup=arguments.warmup, repeats=repeats)
    ]
    text = page(rows, shown_command("benchmark_conversion.py", given, None), repeats)
    write_text(arguments.out / NAME, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the closed-form calibration of a full-size network costs: its time and its memory.

    python tools/calibrate_full_size.py [--backbone mobilenet_v1_react] [--out docs/results]

The backbone as published, at 224 pixels with 1000 classes, on as many random smooth images as
`imagenet-reactnet-a` calibrates on. Weights are random: neither time nor memory depends on what
they are, but for the number of signs that the code search turns over. In a process of its own;
memory is the kernel's high-water mark. A table by layer goes to OUT. Linux only, because of the
memory; the machine should have nothing else to do. Takes about six minutes on two cores.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_training import number, table
from command_line import shown_command
from costs import peak_extra_bytes, smooth_images

from bitat_tf import machine, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.config import CalibrationConfig
from bitat_tf.files import write_text
from bitat_tf.graph import binary_units
from bitat_tf.linalg import block_count

NAME = "full-size-calibration"


@dataclass(frozen=True)
class Setting:
    """What is calibrated.

    Attributes:
        backbone: name.
        arguments: of `models.build`.
        batches, batch_size: images.
    """

    backbone: str
    arguments: dict[str, Any]
    batches: int
    batch_size: int


@dataclass(frozen=True)
class Layer:
    """One binary convolution.

    Attributes:
        name: of the layer.
        inputs, outputs: K and N.
        blocks: of its transform.
        seconds: from the end of the layer before it: the sweeps of student and teacher up to
            it, its moments, and its fit.
    """

    name: str
    inputs: int
    outputs: int
    blocks: int
    seconds: float


@dataclass(frozen=True)
class Calibrated:
    """What the calibration cost.

    Attributes:
        layers: in their order.
        parameters: of the student, without its transforms.
        seconds: in all.
        peak_bytes: the most that the process held beyond what it held before.
    """

    layers: tuple[Layer, ...]
    parameters: int
    seconds: float
    peak_bytes: int


def measure(setting: Setting) -> Calibrated:
    """Calibrate in this process."""
    keras.utils.set_random_seed(0)
    student = models.build(setting.backbone, **setting.arguments)
    teacher = models.build(setting.backbone, **setting.arguments, binary=False)
    side = student.input_shape[1]
    rng = np.random.default_rng(0)
    batches = [
        tf.constant(smooth_images(rng, setting.batch_size, side, 3)) for _ in range(setting.batches)
    ]
    for model in (student, teacher):
        model(batches[0][:1])  # what TensorFlow sets up on first use is not the calibration's
    convolutions = {c.name: c for unit in binary_units(student) for c in unit.convolutions}
    found: list[Layer] = []
    started = time.perf_counter()
    passed = [started]

    def note(name: str, done: int, total: int) -> None:
        now = time.perf_counter()
        layer = convolutions[name]
        *_, outputs = layer.kernel.shape
        inputs = int(np.prod(layer.kernel.shape)) // outputs
        blocks = block_count(inputs, layer.max_block)
        found.append(Layer(name, inputs, outputs, blocks, now - passed[0]))
        passed[0] = now
        print(f"{done}/{total} {found[-1]}", file=sys.stderr, flush=True)

    config = CalibrationConfig(batches=setting.batches, batch_size=setting.batch_size)
    peak = peak_extra_bytes(
        lambda: train.calibrate(student, teacher, batches, config=config, progress=note)
    )
    seconds = time.perf_counter() - started
    parameters = sum(int(np.prod(w.shape)) for w in student.trainable_weights)
    return Calibrated(tuple(found), parameters, seconds, peak)


def markdown(setting: Setting, cost: Calibrated, command: str) -> str:
    """The page."""
    images = setting.batches * setting.batch_size
    rows = [
        [layer.name, *map(str, (layer.inputs, layer.outputs, layer.blocks)), number(layer.seconds)]
        for layer in cost.layers
    ]
    return "\n".join(
        [
            "# Calibration at full size",
            "",
            "```",
            command,
            "```",
            "",
            f"Ran on {machine.describe()}, in a process of its own. `{setting.backbone}`, "
            f"{cost.parameters / 1e6:.1f} million parameters, {len(cost.layers)} binary "
            f"convolutions, on {images} images.",
            "",
            f"**{number(cost.seconds / 60)} minutes, {number(cost.peak_bytes / 2**30)} GiB** at "
            "the most, beyond what the process held before. A layer's time is that from the end "
            "of the one before it: student and teacher up to it, its moments C and D, and its "
            "fit. K inputs (height x width x channels of the kernel), N outputs; V has so many "
            "diagonal blocks.",
            "",
            *table(["layer", "K", "N", "blocks", "seconds"], rows, words=1),
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Time and memory of a full-size calibration.")
    parser.add_argument("--backbone", default="mobilenet_v1_react", choices=models.names())
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--input-size", type=int, default=224, help="pixels")
    parser.add_argument("--classes", type=int, default=1000)
    arguments = parser.parse_args(argv)
    given = {"classes": arguments.classes, "input_size": arguments.input_size}
    setting = Setting(arguments.backbone, given, arguments.batches, arguments.batch_size)
    command = shown_command(
        "calibrate_full_size.py", sys.argv[1:] if argv is None else argv, data_dir=None
    )
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
            cost = executor.submit(measure, setting).result()
    except BrokenProcessPool:
        print(f"calibrate_full_size: {setting} died, as for want of memory", file=sys.stderr)
        return 1
    page = arguments.out / f"{NAME}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, markdown(setting, cost, command))
    print(page.read_text(encoding="utf-8"))
    print(f"Written to {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What training one network costs, measured in a process of its own.

A case builds a student and its float twin, and `measure_alone` has a child process measure, one
after the other:

- the closed-form calibration: its time, and the most memory that it held at once beyond what the
  process held just before. The high-water mark is the kernel's own (VmHWM in /proc/self/status,
  set back through /proc/self/clear_refs), so it counts NumPy's and TensorFlow's memory alike;
  what an earlier case left behind is not in it, because every case has its own process;
- one refresh of all transforms (`train.Tracking`);
- a training step of the student, of the same graph in plain Larq layers (`QuantConv2D` with
  `approx_sign` inputs and `ste_sign` kernels, ordinary PReLU, no learnable shifts, no switches),
  and of the float twin, interleaved A B C A B C so that whatever else the machine does hits all
  alike.

Linux only, because of the memory.
"""

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf import models, train
from bitat_tf._keras import keras, tf
from bitat_tf.config import CalibrationConfig
from bitat_tf.graph import Call, rebuild
from bitat_tf.layers import BitatConv2D, RPReLU, RSign
from bitat_tf.models.mobilenet_v1_react import NANO
from bitat_tf.quantizers import KERNEL_CONSTRAINT, KERNEL_QUANTIZER, lq

layers = keras.layers

KERNEL_SIZE = 3

# Repeats smooth out what takes milliseconds; what takes minutes needs none.
ENOUGH_SECONDS = 20.0


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        batches: of the calibration.
        batch_size: images per batch, in calibration and training.
        steps: at most so many rounds of training steps.
        repeats: at most so many calibrations and refreshes, of which the fastest counts.
    """

    batches: int = 8
    batch_size: int = 128
    steps: int = 40
    repeats: int = 3


@dataclass(frozen=True)
class LayerCase:
    """One binary convolution: RSign -> BitatConv2D (3x3) -> BatchNormalization.

    Behind it the mean over the positions, so that a training step has logits.

    Attributes:
        inputs: K, nine times the input channels.
        outputs: N.
        max_block: of the layer's transform.
    """

    inputs: int
    outputs: int
    max_block: int
    side = 8

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.inputs // KERNEL_SIZE**2

    def build(self, binary: bool) -> Any:
        """The student, or its float twin."""
        images = layers.Input((self.side, self.side, self.channels))
        x = RSign(name="sign")(images) if binary else images
        convolution = (
            BitatConv2D(self.outputs, KERNEL_SIZE, max_block=self.max_block, name="conv")
            if binary
            else layers.Conv2D(
                self.outputs, KERNEL_SIZE, padding="same", use_bias=False, name="conv"
            )
        )
        x = layers.BatchNormalization(name="batchnorm")(convolution(x))
        return keras.Model(images, layers.GlobalAveragePooling2D(name="pool")(x))


@dataclass(frozen=True)
class BackboneCase:
    """The nano backbone with another number of blocks.

    Attributes:
        blocks: its first so many; from the seventh on, its last one again and again.
    """

    blocks: int
    side = 32
    channels = 3

    def build(self, binary: bool) -> Any:
        """The student, or its float twin."""
        blocks = NANO[: self.blocks] + NANO[-1:] * (self.blocks - len(NANO))
        return models.build("mobilenet_v1_react_nano", blocks=blocks, binary=binary)


Case = LayerCase | BackboneCase


@dataclass(frozen=True)
class Cost:
    """What one case costs.

    Attributes:
        convolutions: binary ones.
        larq_steps, bitat_steps, float_steps: seconds of each round's training step.
        calibration_seconds: fastest.
        calibration_bytes: peak memory of the first calibration beyond what was held before it.
        refresh_seconds: of all transforms, fastest.
    """

    convolutions: int
    larq_steps: tuple[float, ...]
    bitat_steps: tuple[float, ...]
    float_steps: tuple[float, ...]
    calibration_seconds: float
    calibration_bytes: int
    refresh_seconds: float

    @property
    def step_seconds(self) -> float:
        """A training step of plain Larq, the unit of all ratios."""
        return statistics.median(self.larq_steps)


def measure_alone(case: Case, effort: Effort) -> Cost:
    """`measure` in a child process that does nothing else.

    Raises:
        concurrent.futures.process.BrokenProcessPool: when the child died, as for want of memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as executor:
        return executor.submit(measure, case, effort).result()


def measure(case: Case, effort: Effort) -> Cost:
    """The cost of a case in this process, which should not have measured another before."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = smooth_images(rng, effort.batches * effort.batch_size, case.side, case.channels)
    batches = list(map(tf.constant, np.split(images, effort.batches)))
    labels = tf.constant(rng.integers(0, 10, effort.batch_size), tf.int32)
    student, teacher = case.build(binary=True), case.build(binary=False)
    for model in (student, teacher):
        model(batches[0][:1])  # what TensorFlow sets up on first use is not the calibration's
    config = CalibrationConfig(batches=effort.batches, batch_size=effort.batch_size)
    calibrations: list[float] = []

    def calibrate() -> None:
        calibrations.append(train.calibrate(student, teacher, batches, config=config).seconds)

    peak = peak_extra_bytes(calibrate)
    for _ in rounds(effort.repeats - 1):
        calibrate()
    tracking = train.Tracking(student, batches, refresh_steps=1)
    refreshes = [seconds_of(lambda: tracking.before_step(0)) for _ in rounds(effort.repeats)]
    steps = interleaved_seconds(
        {
            name: step_function(model, batches[0], labels)
            for name, model in (
                ("larq", plain_larq(student)),
                ("bitat", student),
                ("float", teacher),
            )
        },
        effort.steps,
    )
    return Cost(
        convolutions=sum(isinstance(layer, BitatConv2D) for layer in student.layers),
        larq_steps=tuple(steps["larq"]),
        bitat_steps=tuple(steps["bitat"]),
        float_steps=tuple(steps["float"]),
        calibration_seconds=min(calibrations),
        calibration_bytes=peak,
        refresh_seconds=min(refreshes),
    )


def smooth_images(rng: np.random.Generator, count: int, side: int, channels: int) -> Any:
    """Random images whose neighbouring pixels and whose channels resemble each other.

    As in feature maps: of white noise C would be next to diagonal, and too easy. Fields at half
    the resolution, of a quarter as many sources as channels, and a third as much noise.

    Returns:
        (count, side, side, channels), float32.
    """
    sources = -(-channels // 4)
    coarse = rng.normal(size=(count, side // 2, side // 2, sources))
    mixed = coarse @ rng.normal(size=(sources, channels)) / np.sqrt(sources)
    fine = np.kron(mixed, np.ones((1, 2, 2, 1)))
    return (fine + 0.3 * rng.normal(size=fine.shape)).astype(np.float32)


def plain_larq(student: Any) -> Any:
    """The student's graph in the layers a Larq user would write."""

    def replace(call: Call) -> Any:
        layer = call.layer
        if isinstance(layer, BitatConv2D):
            return lq.layers.QuantConv2D(
                layer.filters,
                layer.kernel_size,
                layer.strides,
                padding=layer.padding,
                pad_values=layer.pad_values,
                input_quantizer="approx_sign",
                kernel_quantizer=KERNEL_QUANTIZER,
                kernel_constraint=KERNEL_CONSTRAINT,
                use_bias=False,
                name=layer.name,
            )
        if isinstance(layer, RSign):
            return lambda x: x
        if isinstance(layer, RPReLU):
            return layers.PReLU(shared_axes=[1, 2], name=layer.name)
        return None

    return rebuild(student, replace)


def step_function(model: Any, images: Any, labels: Any) -> Callable[[], float]:
    """One traced optimizer step on a fixed batch; returns its loss."""
    wrapped = train.Distilled(model)
    optimizer = keras.optimizers.Adam(1e-3)

    @tf.function
    def step() -> Any:
        return train.distill.optimizer_step(wrapped, optimizer, images, labels)[0]

    return lambda: float(step())


def interleaved_seconds(
    steps: dict[str, Callable[[], float]], repeats: int
) -> dict[str, list[float]]:
    """Times of each function in turn, after two rounds of warm-up."""
    for step in (*steps.values(), *steps.values()):
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in rounds(repeats):
        for name, step in steps.items():
            times[name].append(seconds_of(step))
    return times


def rounds(most: int) -> Iterator[int]:
    """Count to `most`, but no further once `ENOUGH_SECONDS` have gone by."""
    started = time.perf_counter()
    for index in range(most):
        yield index
        if time.perf_counter() - started > ENOUGH_SECONDS:
            return


def seconds_of(function: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def peak_extra_bytes(function: Callable[[], object]) -> int:
    """The most memory that this process holds during a call, less what it held just before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # high-water mark to now
    before = _memory_bytes("VmRSS")
    function()
    return _memory_bytes("VmHWM") - before


def _memory_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {field}.")
    return 1024 * int(found[1])

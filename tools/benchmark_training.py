"""What BiTAT costs, as ratios to plain Larq on the same backbone, all in one run.

    python tools/benchmark_training.py [--batch 128] [--steps 40] [--out FILE.json]

Measured, interleaved A B A B so that whatever else the machine does hits all alike:

- the training step of the student, of the same graph in plain Larq layers (`QuantConv2D` with
  `approx_sign` inputs and `ste_sign` kernels, ordinary PReLU, no learnable shifts, no switches),
  and of the float twin;
- the closed-form calibration (8 batches), in training steps of the student.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf import machine, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.config import CalibrationConfig
from bitat_tf.graph import Call, rebuild
from bitat_tf.layers import BitatConv2D, RPReLU, RSign
from bitat_tf.quantizers import KERNEL_CONSTRAINT, KERNEL_QUANTIZER, lq

CALIBRATION_BATCHES = 8


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
            return keras.layers.PReLU(shared_axes=[1, 2], name=layer.name)
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


def interleaved_ms(steps: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Times of each function in turn, after two rounds of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if repeat >= 2:
                times[name].append(1000 * (time.perf_counter() - started))
    return times


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="Cost of BiTAT as ratios to plain Larq.")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    student = models.build("mobilenet_v1_react_nano")
    teacher = models.build("mobilenet_v1_react_nano", binary=False)
    rng = np.random.default_rng(0)
    batches = [
        rng.normal(size=(arguments.batch, 32, 32, 3)).astype("float32")
        for _ in range(CALIBRATION_BATCHES)
    ]
    labels = tf.constant(rng.integers(0, 10, arguments.batch), tf.int32)
    config = CalibrationConfig(batches=CALIBRATION_BATCHES, batch_size=arguments.batch)
    calibration = [
        train.calibrate(student, teacher, batches, config=config).seconds for _ in range(3)
    ]
    times = interleaved_ms(
        {
            "bitat": step_function(student, tf.constant(batches[0]), labels),
            "larq": step_function(plain_larq(student), tf.constant(batches[0]), labels),
            "float": step_function(teacher, tf.constant(batches[0]), labels),
        },
        arguments.steps,
    )
    median = {name: statistics.median(values) for name, values in times.items()}
    ratios = [b / a for a, b in zip(times["larq"], times["bitat"], strict=True)]
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    record = {
        "machine": machine.describe(),
        "median_step_ms": {name: round(value, 1) for name, value in median.items()},
        "bitat_step_over_larq": [round(float(r), 3) for r in (low, middle, high)],
        "calibration_seconds": [round(seconds, 1) for seconds in calibration],
        "calibration_in_steps": round(min(calibration) * 1000 / median["bitat"]),
    }
    print(json.dumps(record, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

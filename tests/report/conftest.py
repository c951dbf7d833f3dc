"""A result with every part, and as many layers as asked for."""

from collections.abc import Callable

import pytest

from bitat_tf.android_results import OperatorTime
from bitat_tf.results import (
    AuditReport,
    CalibrationResult,
    HostProfile,
    LatencyRecord,
    LayerCalibration,
    ModelScore,
    OpRecord,
    ParityReport,
    RunResult,
    StageRecord,
    TrainingPoint,
)


def _curve(steps: int, final: float) -> tuple[TrainingPoint, ...]:
    points = []
    for step in range(0, steps + 1, 100):
        accuracy = final * (1 - 0.8 / (1 + step / 200))
        validation = accuracy - 0.02 if step % 400 == 0 else None
        points.append(TrainingPoint(step, 2.3 - 2 * accuracy, accuracy, validation))
    return tuple(points)


def _layer(index: int, layers: int) -> LayerCalibration:
    floor = 0.15 + 0.4 * index / layers
    name = f"block_{index // 2 + 1}_{'3x3' if index % 2 == 0 else '1x1'}_conv"
    return LayerCalibration(name, 108 + index, 12 + index, floor + 0.2, floor, floor + 0.05, 0.08)


def _op(index: int, kind: str, binary: bool, macs: int) -> OpRecord:
    shape = (1, 8, 8, 12)
    return OpRecord(index, kind, f"op_{index}", shape, "FLOAT32", (12, 3, 3, 12), binary, macs, 600)


def _make_result(layers: int = 15, stages: int = 3) -> RunResult:
    ops = (
        _op(0, "CONV_2D", False, 331_776),
        _op(1, "LceQuantize", False, 0),
        _op(2, "LceBconv2d", True, 1_327_104),
        _op(3, "LceBconv2d", True, 147_456),
    )
    units = [round(layers * (i + 1) / stages) for i in range(stages)]
    host = "host: Some CPU, 2 cores"
    return RunResult(
        recipe={"name": "cifar10-nano", "seed": 0, "student": {"steps": 1600}},
        versions={"python": "3.11.9", "tensorflow": "2.21.0"},
        machine="Some CPU, 2 cores",
        teacher_curve=_curve(2800, 0.75),
        student_curve=_curve(1600, 0.68),
        stages=tuple(StageRecord(i * 1200 // stages, n, layers) for i, n in enumerate(units)),
        calibration=CalibrationResult(tuple(_layer(i, layers) for i in range(layers)), 1024, 25.0),
        scores=(
            ModelScore("float", 0.722, 612_344),
            ModelScore("int8", 0.715, 183_088),
            ModelScore("one-shot calibrated", 0.42, None),
            ModelScore("trained", 0.65, None),
            ModelScore("converted", 0.651, 41_320),
        ),
        audit=AuditReport(ops, 41_320, (1, 32, 32, 3), "FLOAT32", (1, 10), "FLOAT32"),
        parity=ParityReport(1000, 0.999, 0.995, 1e-7, 2e-6, 1e-4, 0.02, 12.5),
        latency=(
            LatencyRecord("binary", host, "LCE 0.16 interpreter", 1, 50, 0.8, 0.7, 1.0, "1", 6.25),
            LatencyRecord("float", host, "TFLite", 1, 50, 2.4, 2.3, 2.9, "1", 9.5),
            LatencyRecord("int8", host, "TFLite", 1, 50, 1.2, 1.1, 1.5, "1", 5.0),
        ),
        profiles=(
            HostProfile(
                "binary",
                host,
                "LCE 0.16 interpreter",
                1,
                0.8,
                (
                    OperatorTime("LceBconv2d", "a", 0.5, 0.625, 1),
                    OperatorTime("LceBconv2d", "b", 0.1, 0.125, 1),
                    OperatorTime("CONV_2D", "c", 0.2, 0.25, 1),
                ),
            ),
        ),
        seconds={"teacher": 301.5, "calibration": 25.0},
    )


@pytest.fixture(scope="session")
def make_result() -> Callable[..., RunResult]:
    return _make_result

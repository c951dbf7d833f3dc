"""What a person sees: lines in a file, a live bar on a terminal, nothing without a console."""

import io
import re

import pytest
from rich.console import Console

from bitat_tf import train
from bitat_tf.results import StageRecord, TrainingPoint
from bitat_tf.train.display import duration

POINT = TrainingPoint(2, 1.5, 0.25, 0.5)


def console(terminal, width=120):
    return Console(width=width, file=io.StringIO(), force_terminal=terminal)


def shown(console):
    """What was written, without the terminal's escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7205, "2:00:05")]
)
def test_a_duration_is_read_like_a_clock(seconds, text):
    assert duration(seconds) == text


def test_a_file_gets_one_line_for_each_logged_point_and_stage():
    file = console(terminal=False)
    with train.Monitor(
        "student", 4, log_steps=2, batch_size=8, console=file, validate=lambda: 0.5
    ) as monitor:
        monitor.stage(StageRecord(0, 1, 3))
        for step in range(4):
            monitor.step(step, 1.0 + step, 0.25)
    assert [(p.step, p.loss, p.validation_accuracy) for p in monitor.points] == [
        (2, 1.5, 0.5),
        (4, 3.5, 0.5),
    ]
    lines = shown(file).splitlines()
    assert len(lines) == 3
    assert lines[0] == "student: step 0: 1/3 units binary"
    assert re.fullmatch(
        r"student: step 2/4  loss 1\.500  accuracy 25\.0%  validation 50\.0%  "
        r"[\d,]+ images/s  left 0:00",
        lines[1],
    )
    assert "\x1b" not in file.file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_gets_a_bar_with_all_that_is_asked_for(width):
    terminal = console(terminal=True, width=width)
    display = train.Display("binary student", 1600, terminal)
    display.start()
    display.stage("15/15 binary")
    display.step(1600, 0.75, 0.5, 1870, 65)
    display.point(POINT, 1870, 65)
    display.say("a line above it")
    display.stop()
    last = shown(terminal).rstrip().splitlines()[-1]
    assert "a line above it" in shown(terminal)
    for part in ("binary student", "15/15 binary", "1600/1600", "loss 0.750", "acc 50%"):
        assert part in last
    for part in ("1,870 img/s", "1:05"):
        assert part in last
    assert len(last) <= width
    assert "validation" not in shown(terminal)


def test_the_bar_goes_on_where_the_training_does():
    terminal = console(terminal=True)
    with train.Monitor("student", 40, console=terminal) as monitor:
        monitor.resumed(12, StageRecord(8, 2, 3))
    assert "student: goes on after step 12/40" in shown(terminal)
    assert "2/3 binary" in shown(terminal)
    assert "12/40" in shown(terminal).rstrip().splitlines()[-1]


def test_without_a_console_nothing_is_shown(capsys):
    display = train.Display("student", 4, None)
    display.start()
    display.step(1, 1.0, 0.5, None, 1)
    display.point(POINT, None, 1)
    display.say("nothing")
    display.stop()
    with train.layer_display("calibration", None) as progress:
        progress("conv", 1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_calibration_shows_its_layers(terminal):
    file = console(terminal)
    with train.layer_display("calibration", file) as progress:
        progress("low_conv", 1, 2)
        progress("high_conv", 2, 2)
    if terminal:
        last = shown(file).rstrip().splitlines()[-1]
        assert all(part in last for part in ("calibration", "2/2", "high_conv"))
    else:
        assert shown(file).splitlines() == [
            "calibration: 1/2 low_conv",
            "calibration: 2/2 high_conv",
        ]


def test_a_stage_shows_the_layer_that_it_calibrates(tiny_student, tiny_teacher, images):
    seen = []
    units = tuple(unit.name for unit in train.stages.binary_units(tiny_student))
    stages = train.Stages(
        tiny_student,
        train.Schedule(units, 8, 4),
        teacher=tiny_teacher,
        calibration_data=[images[:96]],
    )
    stages.progress = lambda name, done, total: seen.append(name)
    stages.on_calibration = lambda result: seen.append(len(result.layers))
    stages.before_step(0)
    (result,) = stages.calibrations
    assert seen == [*(layer.name for layer in result.layers), len(result.layers)]


def test_the_speed_counts_training_steps_only(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    speeds = []

    def validate():
        now[0] += 100
        return 0.5

    with train.Monitor(
        "student",
        8,
        log_steps=4,
        batch_size=10,
        validate=validate,
        on_point=lambda monitor, speed: speeds.append(speed),
    ) as monitor:
        for step in range(8):
            now[0] += 2
            monitor.step(step, 1.0, 0.5)
    assert speeds == [pytest.approx(5.0)] * 2

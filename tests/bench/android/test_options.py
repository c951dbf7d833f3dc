"""What to measure, and the command line that the tool gets for it."""

import dataclasses

import pytest

from bitat_tf.bench.android import Options
from bitat_tf.bench.android.options import Setting


def test_the_tools_command_line_says_everything_explicitly():
    options = Options(repeats=20, warmup=3, timeout_seconds=90)
    setting = Setting(4, "indirect", False)
    assert options.arguments(setting, "model0.tflite", profile=False) == (
        "--graph=model0.tflite",
        "--num_threads=4",
        "--num_runs=20",
        "--warmup_runs=3",
        "--max_secs=30",
        "--use_xnnpack=false",
        "--use_indirect_bgemm=true",
        "--use_reference_bconv=false",
        "--enable_op_profiling=false",
        "--report_peak_memory_footprint=false",
    )
    profiled = options.arguments(Setting(1, "none", True), "m", profile=True)
    assert {"--use_xnnpack=true", "--use_indirect_bgemm=false"} <= set(profiled)
    assert {"--enable_op_profiling=true", "--report_peak_memory_footprint=true"} <= set(profiled)


def test_settings_are_all_combinations_and_float_models_have_no_kernel():
    options = Options(threads=(1, 4))
    assert len(options.settings(binary=True)) == 2 * 2 * 2
    assert {s.kernel for s in options.settings(binary=False)} == {"none"}
    assert len(options.settings(binary=False)) == 2 * 2


@pytest.mark.parametrize(
    "broken",
    [
        {"threads": ()},
        {"threads": (0,)},
        {"threads": (65,)},
        {"threads": (1, 1)},
        {"threads": (True,)},
        {"kernels": ("reference",)},
        {"kernels": ()},
        {"xnnpack": ()},
        {"rounds": 0},
        {"repeats": 0},
        {"warmup": 0},
        {"timeout_seconds": 1},
    ],
)
def test_options_that_cannot_be_are_refused(broken):
    (name,) = broken
    with pytest.raises(ValueError, match=f"`{name}` must"):
        dataclasses.replace(Options(), **broken)

"""What one start of the tool came to: its figures as a record, or why it has none."""

from dataclasses import replace

from bitat_tf.android_results import OperatorTime, RoundRecord
from bitat_tf.bench.android.adb import Finished
from bitat_tf.bench.android.errors import ToolFailed
from bitat_tf.bench.android.heat import Waited
from bitat_tf.bench.android.options import Setting
from bitat_tf.bench.parse import ToolOutput, parse
from bitat_tf.bench.profile import OutputError


def read_output(done: Finished, setting: Setting, *, profile: bool) -> ToolOutput:
    """What the tool told.

    Args:
        done: the tool's end.
        setting: it was to run in.
        profile: whether it was to profile.

    Raises:
        ToolFailed: when it failed, cannot be believed, or ran in another setting.
    """
    if done.status:
        raise ToolFailed(f"the tool ended with {_ending(done)}")
    try:
        output = parse(done.stdout, profile=profile)
    except OutputError as err:
        raise ToolFailed(f"its output cannot be used: {err}") from err
    # What it says it was told, where it says so.
    told = {
        "Num threads": str(setting.threads),
        "Use xnnpack": str(int(setting.xnnpack)),
        "Use indirect BGEMM": str(int(setting.kernel == "indirect")),
    }
    for name, value in told.items():
        said = output.settings.get(name, value)
        if said != value:
            raise ToolFailed(f"the tool ran with {name}: [{said}] instead of [{value}]")
    return output


def round_record(output: ToolOutput, waited: Waited) -> RoundRecord:
    """The figures of one counted start, in milliseconds."""
    inference = output.inference
    record = RoundRecord(
        runs=inference.count,
        average_ms=inference.average_us / 1e3,
        min_ms=inference.min_us / 1e3,
        max_ms=inference.max_us / 1e3,
        std_ms=inference.std_us / 1e3,
        median_ms=None,
        p5_ms=None,
        p95_ms=None,
        init_ms=output.init_us / 1e3,
        first_ms=output.warmup.first_us / 1e3,
        warmup_average_ms=output.warmup.average_us / 1e3,
        memory_init_mb=output.memory_init_mb,
        memory_overall_mb=output.memory_overall_mb,
        heat=waited.heat,
        waited_seconds=waited.seconds,
        hot=waited.hot,
    )
    if inference.median_us is None or inference.p5_us is None or inference.p95_us is None:
        return record
    return replace(
        record,
        median_ms=inference.median_us / 1e3,
        p5_ms=inference.p5_us / 1e3,
        p95_ms=inference.p95_us / 1e3,
    )


def operator_times(output: ToolOutput) -> tuple[OperatorTime, ...]:
    """The graph's operators in their order, of a start with the profiler."""
    return tuple(
        OperatorTime(row.type, row.name, row.average_ms, row.share, row.calls)
        for row in output.profile[0].rows
    )


def _ending(done: Finished) -> str:
    """Exit status, the signal that it stands for, and the last line that was said."""
    signal = f" (signal {done.status - 128})" if done.status > 128 else ""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    said = f": {lines[-1]}" if lines else ""
    return f"status {done.status}{signal}{said}"

"""`bitat benchmark`: its arguments, and what they do, on this host or on a phone."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitat_tf import bench, report
from bitat_tf.android_results import AndroidBenchmark
from bitat_tf.config import BenchmarkConfig
from bitat_tf.loading import read_flatbuffer, short_names
from bitat_tf.recipe_files import data_dir_overrides

EXAMPLES = """\
bitat benchmark runs/cifar10-nano
  bitat benchmark a.tflite b.tflite
  bitat benchmark runs/cifar10-nano --device android --threads 1 4 --profile
  bitat benchmark a.tflite --device android --binary lce_benchmark_model_android_arm64"""

_HOST_NOTE = "Device: {}. Host figures say nothing about phones."
_XNNPACK = {"on": (True,), "off": (False,), "both": (False, True)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("models", type=Path, nargs="+", help="run directory, or .tflite files")
    parser.add_argument(
        "--device",
        choices=("host", "android"),
        default="host",
        help="where to measure; android is a phone reached by adb (default: %(default)s)",
    )
    host, phone = BenchmarkConfig(), bench.android.Options()
    for name, help_text in (
        ("repeats", "counted runs of each model, on a phone of each round"),
        ("warmup", "runs before them"),
    ):
        defaults = f"{getattr(host, name)}; on a phone {getattr(phone, name)}"
        parser.add_argument(
            f"--{name}", type=int, help=f"{help_text} (default: the run's recipe's, or {defaults})"
        )
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        help="interpreter threads; on a phone several counts may be given "
        f"(default: the run's recipe's, or {host.threads})",
    )
    parser.add_argument(
        "--profile",
        action="store_const",
        const=True,
        help="also the time of each operator; on a phone in one more run of each",
    )
    parser.add_argument("--data-dir", help="where TFDS finds the run's data set")
    _add_phone_arguments(parser.add_argument_group("on a phone"), phone)


def _add_phone_arguments(group: Any, default: bench.android.Options) -> None:
    # None means: not given. Given without --device android, each of them is an error.
    group.add_argument("--serial", help="of the phone, where several are attached")
    group.add_argument(
        "--binary",
        type=Path,
        help="the lce_benchmark_model to push (default: the one in "
        f"{bench.android.cache_directory()})",
    )
    group.add_argument(
        "--kernels",
        nargs="+",
        choices=("default", "indirect"),
        help=f"of LceBconv2d (default: {' '.join(default.kernels)})",
    )
    group.add_argument("--xnnpack", choices=tuple(_XNNPACK), help="delegate (default: both)")
    group.add_argument(
        "--cpu-mask", help="hexadecimal mask of cores, e.g. f0 (default: the fastest ones)"
    )
    group.add_argument(
        "--rounds", type=int, help=f"interleaved starts of each (default: {default.rounds})"
    )
    group.add_argument(
        "--cool-below",
        type=float,
        metavar="C",
        help=f"degrees Celsius below which a run starts (default: {default.heat.cool_below:g})",
    )
    group.add_argument(
        "--max-wait",
        type=float,
        metavar="SECONDS",
        help="for the phone to cool down before a run "
        f"(default: {default.heat.max_wait_seconds:g})",
    )
    group.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help=f"after which a run counts as hung (default: {default.timeout_seconds:g})",
    )
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIRECTORY",
        help="where benchmark.json and benchmark.md go; a run directory keeps them itself",
    )


_PHONE_ONLY = (
    "serial",
    "binary",
    "kernels",
    "xnnpack",
    "cpu_mask",
    "rounds",
    "cool_below",
    "max_wait",
    "timeout",
    "out",
)


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Carry the command out.

    Raises:
        ValueError: on arguments that do not go together.
    """
    if arguments.device == "android":
        _run_on_phone(arguments, console)
        return
    for name in _PHONE_ONLY:
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} goes with --device android.")
    if arguments.threads is not None and len(arguments.threads) > 1:
        raise ValueError("Several --threads go with --device android; the host takes one count.")
    _run_on_host(arguments, console)


def _run_on_host(arguments: argparse.Namespace, console: Console) -> None:
    given = {
        name: value
        for name in ("warmup", "repeats")
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.threads is not None:
        (given["threads"],) = arguments.threads
    opened = _open_run(arguments, console)
    if opened is None:
        _compare_files(arguments, BenchmarkConfig(**given))
        return
    config = dataclasses.replace(opened.recipe.benchmark, **given)
    opened.recipe = dataclasses.replace(opened.recipe, benchmark=config)
    records = opened.benchmark()
    profiles = opened.profile() if arguments.profile else ()
    table = Table(*report.COMPARISON_HEADER)
    shown = dataclasses.replace(opened.result, android=())
    for row in report.comparison_rows(shown):
        table.add_row(*report.comparison_cells(row))
    Console().print(table)
    for profile in profiles:
        print(
            f"{profile.model}: operators {profile.sum_ms:.3f} ms in all, "
            f"whole {profile.whole_ms:.3f} ms"
        )
    print(_HOST_NOTE.format(records[0].device))
    print(f"Report: {opened.report()}")


def _compare_files(arguments: argparse.Namespace, config: BenchmarkConfig) -> None:
    flatbuffers = _read(arguments)
    records = bench.host.compare(flatbuffers, **dataclasses.asdict(config))
    table = Table("model", "runtime", "threads", "median ms", "p10", "p90", "memory MB")
    for record in records:
        memory = "" if record.memory_mb is None else f"{record.memory_mb:.1f}"
        table.add_row(
            escape(record.model),
            record.runtime,
            str(record.threads),
            *(f"{ms:.3f}" for ms in (record.median_ms, record.p10_ms, record.p90_ms)),
            memory,
        )
    Console().print(table)
    if arguments.profile:
        table = Table("model", "operator", "count", "ms", "share")
        for name, content in flatbuffers.items():
            profile = bench.operators.profile(content, name=name)
            for kind, count, ms, share in report.operator_rows(profile.operators):
                table.add_row(escape(name), kind, count, ms, share)
        Console().print(table)
    print(_HOST_NOTE.format(records[0].device))


def _open_run(arguments: argparse.Namespace, console: Console) -> Any:
    """The run, where the only model is a run's directory; else None."""
    from bitat_tf.experiment import Run

    if len(arguments.models) == 1 and arguments.models[0].is_dir():
        overrides = data_dir_overrides(arguments.data_dir)
        return Run.open(arguments.models[0], overrides=overrides, console=console)
    if any(path.is_dir() for path in arguments.models):
        raise ValueError("Give one run directory, or .tflite files, not both.")
    if arguments.data_dir is not None:
        raise ValueError("--data-dir goes with a run directory; .tflite files need no data.")
    return None


def _read(arguments: argparse.Namespace) -> dict[str, bytes]:
    return {name: read_flatbuffer(path) for name, path in short_names(arguments.models).items()}


def _run_on_phone(arguments: argparse.Namespace, console: Console) -> None:
    options = _phone_options(arguments)
    opened = _open_run(arguments, console)
    if opened is not None and arguments.out is not None:
        raise ValueError("--out goes with .tflite files; a run directory keeps its figures itself.")
    if opened is None:
        flatbuffers = _read(arguments)
    else:
        opened.make_twins()
        flatbuffers = opened.flatbuffers()
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    latest: list[AndroidBenchmark] = []

    def progress(benchmark: AndroidBenchmark, text: str) -> None:
        latest[:] = [benchmark]
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    try:
        latest[:] = [bench.android.measure(flatbuffers, options, on_progress=progress)]
    except bench.android.MeasurementError as err:
        if err.finished is not None:
            latest[:] = [err.finished]
        raise
    finally:  # what was measured before a failure or Ctrl-C is worth keeping
        if latest and (latest[0].records or latest[0].failures):
            _keep(latest[0], opened, arguments.out)


def _phone_options(arguments: argparse.Namespace) -> bench.android.Options:
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name in (
            "serial",
            "binary",
            "threads",
            "kernels",
            "cpu_mask",
            "rounds",
            "repeats",
            "warmup",
            "profile",
        )
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.xnnpack is not None:
        given["xnnpack"] = _XNNPACK[arguments.xnnpack]
    if arguments.timeout is not None:
        given["timeout_seconds"] = arguments.timeout
    return bench.android.Options(heat=_heat_limits(arguments), **given)


def _heat_limits(arguments: argparse.Namespace) -> bench.android.HeatLimits:
    given: Mapping[str, float | None] = {
        "cool_below": arguments.cool_below,
        "max_wait_seconds": arguments.max_wait,
    }
    return bench.android.HeatLimits(**{k: v for k, v in given.items() if v is not None})


def _keep(benchmark: AndroidBenchmark, opened: Any, out: Path | None) -> None:
    """Print the figures, and write them where they belong."""
    table = Table("model", "threads", "kernel", "XNNPACK", "ms", "range ms", "of", "rounds")
    for record in benchmark.records:
        table.add_row(
            escape(record.model),  # a file may be called "[red]"
            str(record.threads),
            record.kernel,
            "on" if record.xnnpack else "off",
            f"{record.latency_ms:.3f}",
            f"{min(record.round_ms):.3f} - {max(record.round_ms):.3f}",
            record.statistic,
            str(len(record.rounds)),
        )
    Console().print(table)
    print(f"Device: {benchmark.device.model}, {benchmark.device.soc}.")
    if opened is not None:
        opened.keep_android(benchmark)
        print(f"Report: {opened.report()}")
    elif out is not None:
        print(f"Report: {report.write_phone(benchmark, out)}")

"""What to measure on a phone, and how."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from bitat_tf.bench.android.heat import HeatLimits

Kernel = Literal["default", "indirect"]

_MOST_THREADS = 64


@dataclass(frozen=True)
class Setting:
    """One way to run a model; `kernel` is `"none"` for a model without binary operators."""

    threads: int
    kernel: str
    xnnpack: bool

    def __str__(self) -> str:
        xnnpack = "on" if self.xnnpack else "off"
        return f"threads {self.threads}, kernel {self.kernel}, XNNPACK {xnnpack}"


@dataclass(frozen=True)
class Options:
    """How a phone is measured: every combination of threads, kernels and XNNPACK.

    Args:
        serial: of the phone; None takes $ANDROID_SERIAL or else the only one.
        binary: path of the benchmark tool; None looks into `tool.cache_directory()`.
        threads: thread counts.
        kernels: of LceBconv2d; the indirect one is faster on small inputs and slower on large
            ones. A model without binary operators is run once.
        xnnpack: with the XNNPACK delegate for the float operators or without.
        cpu_mask: hexadecimal mask of cores; None takes the fastest ones, `cores.fastest_cores`.
        rounds: starts of the tool for each model and setting, interleaved.
        repeats: counted inferences of a round, at least; the tool goes on for one second.
        warmup: inferences before them, at least; the tool goes on for half a second.
        profile: whether to run each once more with the profile of operators.
        heat: when to wait for the phone to cool down.
        timeout_seconds: after which a start of the tool counts as hung.
        adb: name or path of the `adb` command.

    Raises:
        ValueError: on a value out of range, or a sequence that is empty or has one twice.
    """

    serial: str | None = None
    binary: Path | None = None
    threads: tuple[int, ...] = (1,)
    kernels: tuple[Kernel, ...] = ("default", "indirect")
    xnnpack: tuple[bool, ...] = (False, True)
    cpu_mask: str | None = None
    rounds: int = 3
    repeats: int = 50
    warmup: int = 1
    profile: bool = False
    heat: HeatLimits = field(default_factory=HeatLimits)
    timeout_seconds: float = 300.0
    adb: str = "adb"

    def __post_init__(self) -> None:
        for name in ("rounds", "repeats", "warmup"):
            _check_count(name, getattr(self, name))
        for name in ("threads", "kernels", "xnnpack"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(
                    f"`{name}` must hold at least one value, and none twice. Received: {values!r}"
                )
        for count in self.threads:
            _check_count("threads", count)
            if count > _MOST_THREADS:
                raise ValueError(f"`threads` must be at most {_MOST_THREADS}. Received: {count!r}")
        unknown = set(self.kernels) - set(get_args(Kernel))
        if unknown:
            raise ValueError(
                f"`kernels` must be of {', '.join(get_args(Kernel))}. Received: {sorted(unknown)}"
            )
        # The tool's own limit for each of its two phases is a third of this.
        if not 3 <= self.timeout_seconds < float("inf"):
            raise ValueError(
                "`timeout_seconds` must be at least 3 and finite. "
                f"Received: {self.timeout_seconds!r}"
            )

    def settings(self, *, binary: bool) -> tuple[Setting, ...]:
        """All settings for a model with binary operators, or for one without.

        Args:
            binary: whether the model has binary operators; one without is run with no choice of
                kernels.

        Returns:
            Every combination of threads, kernels and XNNPACK.
        """
        kernels: tuple[str, ...] = self.kernels if binary else ("none",)
        return tuple(
            Setting(*choice) for choice in itertools.product(self.threads, kernels, self.xnnpack)
        )

    def arguments(self, setting: Setting, graph: str, *, profile: bool) -> tuple[str, ...]:
        """The tool's command-line options for one start.

        Args:
            setting: how to run.
            graph: path of the model on the phone.
            profile: whether this start is for the profile.

        Returns:
            Options as the tool takes them, such as `"--num_threads=1"`.
        """
        return (
            f"--graph={graph}",
            f"--num_threads={setting.threads}",
            f"--num_runs={self.repeats}",
            f"--warmup_runs={self.warmup}",
            f"--max_secs={self.timeout_seconds / 3:g}",
            # The default of both depends on how the tool was built.
            f"--use_xnnpack={_flag(setting.xnnpack)}",
            f"--use_indirect_bgemm={_flag(setting.kernel == 'indirect')}",
            "--use_reference_bconv=false",
            f"--enable_op_profiling={_flag(profile)}",
            # Watching the peak needs a thread of its own, which would disturb the timings.
            f"--report_peak_memory_footprint={_flag(profile)}",
            *(("--max_profiling_buffer_entries=16384",) if profile else ()),
        )


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1. Received: {value!r}")

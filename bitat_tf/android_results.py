"""Records of a phone and of what was measured on it; `bitat_tf.results` holds them in a run.

They import nothing, so that the benchmark makes them and the report reads them. Units stand in
the names. The benchmark tool's figures keep their meaning: an average is called an average, and
a median is only there where the tool printed one.
"""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class CoreRecord:
    """One processor core as the kernel describes it; None where it does not tell.

    Attributes:
        index: of the core, the bit in a CPU mask.
        max_khz: highest frequency of the hardware.
        limit_khz: highest frequency allowed when it was read; below `max_khz` the phone holds
            the core back (heat, battery saver).
        governor: e.g. `"schedutil"`.
    """

    index: int
    max_khz: int | None = None
    limit_khz: int | None = None
    governor: str = ""


@dataclass(frozen=True)
class HeatRecord:
    """How hot the phone says it is.

    Attributes:
        celsius: of the skin sensor or else the battery; None where neither can be read.
        source: `"skin"`, `"battery"` or empty.
        status: Android's thermal status, 0 (none) to 6 (shutdown); None before Android 10.
    """

    celsius: float | None = None
    source: str = ""
    status: int | None = None


@dataclass(frozen=True)
class DeviceRecord:
    """What a phone says of itself, read before the first run; empty or None where it does not.

    Attributes:
        serial: as `adb devices` shows it.
        model: manufacturer and model.
        soc: system on chip.
        abi: preferred binary interface, e.g. `"arm64-v8a"`.
        abis: all that it runs.
        android: version, e.g. `"14"`.
        sdk: API level, e.g. `"34"`.
        cores: of the processor.
        battery_percent: charge.
        power: where it comes from: `"battery"`, `"USB"`, `"AC"` or `"wireless"`.
        heat: before the first run.
    """

    serial: str
    model: str
    soc: str
    abi: str
    abis: tuple[str, ...]
    android: str
    sdk: str
    cores: tuple[CoreRecord, ...]
    battery_percent: int | None
    power: str
    heat: HeatRecord


@dataclass(frozen=True)
class OperatorTime:
    """One operator's row in the tool's profile.

    Attributes:
        type: of the operator, e.g. `"LceBconv2d"`.
        name: of the node.
        average_ms: per inference.
        share: of the time of all operators, in [0, 1].
        calls: per inference.
    """

    type: str
    name: str
    average_ms: float
    share: float
    calls: int


@dataclass(frozen=True)
class RoundRecord:
    """One start of the tool: warm-up, then `runs` counted inferences.

    Attributes:
        runs: counted inferences.
        average_ms, min_ms, max_ms, std_ms: of them.
        median_ms, p5_ms, p95_ms: of them, None where the tool printed none (older ones).
        init_ms: loading the model and allocating tensors.
        first_ms: the first inference ever.
        warmup_average_ms: of the warm-up.
        memory_init_mb, memory_overall_mb: growth of the process since its start, approximate
            (MB of 2**20 bytes); None where not printed.
        heat: before the round.
        waited_seconds: for the phone to cool down before the round.
        hot: whether it was still above the limit when the waiting was given up.
    """

    runs: int
    average_ms: float
    min_ms: float
    max_ms: float
    std_ms: float
    median_ms: float | None
    p5_ms: float | None
    p95_ms: float | None
    init_ms: float
    first_ms: float
    warmup_average_ms: float
    memory_init_mb: float | None
    memory_overall_mb: float | None
    heat: HeatRecord
    waited_seconds: float
    hot: bool


@dataclass(frozen=True)
class AndroidRecord:
    """One model in one setting on a phone: its rounds, interleaved with the other models'.

    Attributes:
        model: the user's name of it.
        model_sha256: of the flatbuffer.
        threads: of the interpreter.
        kernel: of LceBconv2d: `"default"` or `"indirect"`; `"none"` where the model has no
            binary operator.
        xnnpack: whether the XNNPACK delegate was asked for.
        delegated: what the tool says XNNPACK took over: `"all"`, `"part"`, `"none"`, or empty
            where it says nothing.
        cpu_mask: of the cores it was bound to, hexadecimal; empty where it was not bound.
        rounds: the measurements.
        operators: the profile, from a run of its own that is not counted; empty without.
        memory_peak_mb: of that run; None without.
    """

    model: str
    model_sha256: str
    threads: int
    kernel: str
    xnnpack: bool
    delegated: str
    cpu_mask: str
    rounds: tuple[RoundRecord, ...]
    operators: tuple[OperatorTime, ...] = ()
    memory_peak_mb: float | None = None

    @property
    def statistic(self) -> str:
        """What one round's figure is: `"median"` if every round has one, else `"mean"`."""
        medians = all(r.median_ms is not None for r in self.rounds)
        return "median" if medians else "mean"

    @property
    def round_ms(self) -> tuple[float, ...]:
        """Each round's `statistic`."""
        if self.statistic == "mean":
            return tuple(r.average_ms for r in self.rounds)
        return tuple(r.median_ms for r in self.rounds if r.median_ms is not None)

    @property
    def latency_ms(self) -> float:
        """Median over the rounds of each round's `statistic`."""
        return median(self.round_ms)


@dataclass(frozen=True)
class FailureRecord:
    """A model in a setting that could not be measured to the end, and why.

    Attributes:
        model: the user's name of it.
        setting: threads, kernel and XNNPACK.
        reason: one line.
    """

    model: str
    setting: str
    reason: str


@dataclass(frozen=True)
class AndroidBenchmark:
    """One session on one phone.

    Attributes:
        device: the phone.
        binary: file name of the benchmark tool.
        binary_sha256: of the tool.
        binary_abi: binary interface it was built for, from its ELF header.
        records: finished measurements.
        failures: what could not be measured.
    """

    device: DeviceRecord
    binary: str
    binary_sha256: str
    binary_abi: str
    records: tuple[AndroidRecord, ...] = ()
    failures: tuple[FailureRecord, ...] = ()

"""Result records: frozen dataclasses that go to and from JSON (`bitat_tf.records`).

Records import nothing of the package but other records, so that any room can make one and the
report can read them all. Units stand in the names: bytes, milliseconds, shares in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitat_tf.android_results import AndroidBenchmark, OperatorTime


@dataclass(frozen=True)
class LayerCalibration:
    """What calibration did to one binary convolution.

    The three shares are of the (weighted) variance of the layer's target, measured on the
    calibration data; lower is better.

    Attributes:
        name: of the convolution.
        inputs: K = kh * kw * c_in.
        outputs: N = c_out.
        unexplained_sign: left by sign(W) of the float kernel with its best scale per
            channel, the state before compensation.
        unexplained_real: left by the compensated real kernel W*, a floor set by the 1-bit
            activations.
        unexplained_binary: left by the signs and scales that were chosen.
        sign_changes: share of the kernel's signs that differ from sign(W).
    """

    name: str
    inputs: int
    outputs: int
    unexplained_sign: float
    unexplained_real: float
    unexplained_binary: float
    sign_changes: float


@dataclass(frozen=True)
class CalibrationResult:
    """What calibration did.

    Attributes:
        layers: bottom to top.
        images: that it saw.
        seconds: wall time.
    """

    layers: tuple[LayerCalibration, ...]
    images: int
    seconds: float

    def __str__(self) -> str:
        count = len(self.layers)
        shares = ("unexplained_sign", "unexplained_binary", "unexplained_real")
        sign, binary, real = (
            sum(getattr(layer, share) for layer in self.layers) / max(count, 1) for share in shares
        )
        return (
            f"{count} convolutions, {self.images:,} images, {self.seconds:.1f} s. Of "
            f"a layer's target {sign:.0%} were unexplained by sign(W), are {binary:.0%} now, and "
            f"would be {real:.0%} with real weights behind the 1-bit inputs (means)."
        )


@dataclass(frozen=True)
class OpRecord:
    """One operator of a flatbuffer.

    Attributes:
        index: position in the execution order.
        type: builtin or custom operator name, e.g. `"CONV_2D"`, `"LceBconv2d"`.
        name: of its first output tensor.
        output_shape: of that tensor, batch included.
        output_type: TFLite type name, e.g. `"FLOAT32"`.
        kernel_shape: of the weights of a convolution or dense layer, else empty;
            (c_out, kh, kw, c_in).
        binary: whether it computes with 1-bit weights and activations.
        macs: multiply-accumulates of one inference.
        size_bytes: of its constant inputs.
        pooling: whether it is a depthwise convolution that averages over its window, as the
            fold writes pooling; its MACs are not counted, as those of AVERAGE_POOL_2D are not.
    """

    index: int
    type: str
    name: str
    output_shape: tuple[int, ...]
    output_type: str
    kernel_shape: tuple[int, ...]
    binary: bool
    macs: int
    size_bytes: int
    pooling: bool = False


@dataclass(frozen=True)
class SizeBreakdown:
    """What the bytes of a flatbuffer are; the first seven add up to the file.

    Attributes:
        binary_kernels: of LceBconv2d, packed into words of 32 input channels.
        float_kernels, int8_kernels: of convolutions and dense layers.
        constants: all else that operators read: biases, factors, thresholds, slopes.
        metadata: the content of named metadata entries.
        unused: buffers that nobody reads.
        graph: operators, tensors with their names and shapes, and what joins them.
        duplicates: of the constants and kernels, what is there a second time.
        predicted: what the model's parameters take at 1 bit per binary weight and 4 bytes for
            all else; the flatbuffer's own kernels and constants where no model was given.
        notes: where the file is more than a stated share off that, a sentence for each cause.
    """

    binary_kernels: int
    float_kernels: int
    int8_kernels: int
    constants: int
    metadata: int
    unused: int
    graph: int
    duplicates: int
    predicted: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditReport:
    """What a flatbuffer really contains.

    Attributes:
        ops: all operators in execution order.
        size_bytes: of the whole file.
        input_shape, input_type, output_shape, output_type: of the first input and output.
        missing: intended binary convolutions that are not LceBconv2d, each with the op that
            stands in its place.
        size: what its bytes are; None in reports of earlier versions.
        warnings: operators that LCE's builds for Android lack, a sentence each.
    """

    ops: tuple[OpRecord, ...]
    size_bytes: int
    input_shape: tuple[int, ...]
    input_type: str
    output_shape: tuple[int, ...]
    output_type: str
    missing: tuple[str, ...] = ()
    size: SizeBreakdown | None = None
    warnings: tuple[str, ...] = ()

    @property
    def binary_convolutions(self) -> int:
        """Number of LceBconv2d operators."""
        return sum(op.type == "LceBconv2d" for op in self.ops)

    @property
    def float_convolutions(self) -> int:
        """Number of CONV_2D and DEPTHWISE_CONV_2D operators that do not merely average."""
        types = ("CONV_2D", "DEPTHWISE_CONV_2D")
        return sum(op.type in types and not op.pooling for op in self.ops)

    @property
    def binary_macs(self) -> int:
        """1-bit multiply-accumulates of one inference."""
        return sum(op.macs for op in self.ops if op.binary)

    @property
    def float_macs(self) -> int:
        """All other multiply-accumulates of one inference."""
        return sum(op.macs for op in self.ops if not op.binary)


@dataclass(frozen=True)
class FoldStep:
    """What one rewrite of the fold did.

    Attributes:
        rewrite: its name.
        changed: names of the layers it changed or removed.
    """

    rewrite: str
    changed: tuple[str, ...]


@dataclass(frozen=True)
class LayerComparison:
    """One operator of a flatbuffer against the Keras layer whose output it computes.

    Errors are absolute differences divided by the largest absolute Keras output. Of 1-bit
    outputs the error is how far from the threshold the value was, in front of a sign that
    differs.

    Attributes:
        operator: its index in the execution order.
        type: its name, e.g. `"LceBconv2d"`.
        layer: name of the Keras layer.
        error_max, error_p99: over all values of all images.
        sign_agreement: share of equal signs, of 1-bit outputs; else None.
        passed: whether the criterion holds.
    """

    operator: int
    type: str
    layer: str
    error_max: float
    error_p99: float
    sign_agreement: float | None
    passed: bool


@dataclass(frozen=True)
class LayerParityReport:
    """A flatbuffer against Keras, operator by operator, each on what Keras' layers read.

    Attributes:
        images: number compared.
        max_error: the stated criterion.
        layers: in execution order.
        uncompared: operators whose output no Keras layer has, as `"index type"`; they ran on
            to the next that has one.
    """

    images: int
    max_error: float
    layers: tuple[LayerComparison, ...]
    uncompared: tuple[str, ...] = ()

    @property
    def first_divergence(self) -> LayerComparison | None:
        """The first layer that fails the criterion; None where all hold it."""
        return next((layer for layer in self.layers if not layer.passed), None)


@dataclass(frozen=True)
class ParityReport:
    """Keras against the flatbuffer on the same images.

    Attributes:
        images: number compared.
        agreement: share of images on which both name the same class.
        min_agreement: the stated criterion.
        error_median, error_p90, error_p99, error_max: quantiles over images of the largest
            absolute difference of an output, divided by `output_scale`.
        output_scale: largest absolute Keras output.
        layers: operator by operator, where it was asked for or the agreement was too low.
    """

    images: int
    agreement: float
    min_agreement: float
    error_median: float
    error_p90: float
    error_p99: float
    error_max: float
    output_scale: float
    layers: LayerParityReport | None = None

    @property
    def passed(self) -> bool:
        """Whether the agreement reaches the criterion, and no compared layer fails its own."""
        alike = self.layers is None or self.layers.first_divergence is None
        return self.agreement >= self.min_agreement and alike


@dataclass(frozen=True)
class LatencyRecord:
    """Latency of one model on one device.

    Attributes:
        model: a short name, e.g. `"binary"` or `"float"`.
        device: where it ran; host figures always start with `"host"` and say nothing about
            phones.
        runtime: interpreter and kernels.
        threads: interpreter threads.
        repeats: counted runs.
        median_ms, p10_ms, p90_ms: of the counted runs.
        cores: that its process was bound to, e.g. `"1"`; empty where it was not.
        memory_mb: growth of its process to its peak since before the model was loaded (MB of
            2**20 bytes); None where the system does not tell.
    """

    model: str
    device: str
    runtime: str
    threads: int
    repeats: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    cores: str = ""
    memory_mb: float | None = None


@dataclass(frozen=True)
class HostProfile:
    """The time of each operator of one model on the host.

    Attributes:
        model: a short name, as in `LatencyRecord`.
        device, runtime, threads: as there.
        whole_ms: median of whole inferences, timed between the operators in the same process.
        operators: in execution order; each was timed alone, `share` is of their sum.
    """

    model: str
    device: str
    runtime: str
    threads: int
    whole_ms: float
    operators: tuple[OperatorTime, ...]

    @property
    def sum_ms(self) -> float:
        """Of all operators; near `whole_ms` where the measurement is sound."""
        return sum(operator.average_ms for operator in self.operators)


@dataclass(frozen=True)
class StageRecord:
    """A stage of the schedule as it was entered.

    Attributes:
        step: its first optimizer step, from 0.
        binary_units: units that are binary in it.
        units: units in all.
    """

    step: int
    binary_units: int
    units: int


@dataclass(frozen=True)
class TrainingPoint:
    """One logged point of a training run.

    Attributes:
        step: optimizer steps so far.
        loss: mean over the training batches since the point before.
        accuracy: of the same batches, in [0, 1].
        validation_accuracy: in [0, 1]; None where not measured.
    """

    step: int
    loss: float
    accuracy: float
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class ModelScore:
    """One row of the summary.

    Attributes:
        model: a short name, e.g. `"float"`, `"int8"` or `"converted"`.
        test_accuracy: in [0, 1]; None where not measured.
        size_bytes: of the flatbuffer; None where there is none.
    """

    model: str
    test_accuracy: float | None
    size_bytes: int | None


@dataclass(frozen=True)
class RunResult:
    """Everything a run directory's report is made from.

    Attributes:
        recipe: the resolved recipe as a plain mapping.
        versions: package -> version, Python included.
        machine: processor and cores, e.g. `"Intel Xeon, 2 cores"`.
        command: the command line that started the run; empty where there was none.
        teacher_curve, student_curve: logged training points; steps of each count from 0.
        stages: of the student's schedule, as entered.
        calibration: None where the run did none.
        scores: float teacher, one-shot calibrated, trained and converted network.
        audit, parity: of the converted flatbuffer; None before conversion.
        latency: host records.
        profiles: time of each operator on the host.
        android: sessions on phones, the latest of each phone.
        seconds: wall time by phase.
    """

    recipe: Mapping[str, Any]
    versions: Mapping[str, Any]
    machine: str
    command: str = ""
    teacher_curve: tuple[TrainingPoint, ...] = ()
    student_curve: tuple[TrainingPoint, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    calibration: CalibrationResult | None = None
    scores: tuple[ModelScore, ...] = ()
    audit: AuditReport | None = None
    parity: ParityReport | None = None
    latency: tuple[LatencyRecord, ...] = ()
    profiles: tuple[HostProfile, ...] = ()
    android: tuple[AndroidBenchmark, ...] = ()
    seconds: Mapping[str, Any] = field(default_factory=dict)

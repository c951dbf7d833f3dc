"""Recipes as frozen dataclasses; `recipe_files` reads them strictly: a typo is an error.

A recipe is one YAML mapping with the sections of `Recipe`. Every field is validated when
the dataclass is made, so a `Recipe` that exists is one that can run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bitat_tf.records import check

Order = Literal["bottom_up", "top_down", "random"]
"""In which order layers become binary."""
Trainer = Literal["fit", "loop"]
"""Keras' `fit` with a callback, or the custom loop."""
ThresholdRule = Literal["lloyd_max", "median", "zero"]
"""Where the threshold of a sign starts."""
CodeSearch = Literal["correlation", "diagonal"]
"""What calibration chooses the signs by."""
Target = Literal["joined", "branch"]
"""What calibration takes as a branch's target."""
ReleaseOrder = Literal["most_first", "least_first"]
"""Which directions of a kernel become 1-bit first."""
Crop = Literal["pad", "resized"]
"""How training images are cropped at random."""
Strategy = Literal["none", "mirrored", "multiworker", "tpu"]
"""On what a training is spread out."""
Precision = Literal["float32", "bfloat16"]
"""What a training computes in."""
# What each of them does: `bitat_tf.train.methods`.
MethodName = Literal[
    "bitat",
    "ste",
    "xnor",
    "bireal",
    "react-two-step",
    "adambnn",
    "irnet",
    "recu",
    "stompp",
    "stompp-ste",
]
"""What each of them does: `bitat_tf.train.methods`."""


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from.

    Args:
        dataset: `"digits"` (scikit-learn's, embedded), a TFDS name such as `"cifar10"`, the path
            of a prepared TFDS directory (one that holds `dataset_info.json`), or that of an
            image folder (`train/CLASS/*.jpg` and `test` or `validation` beside `train`).
        data_dir: where TFDS keeps its data sets; None is TFDS's own default.
        validation_fraction: share of the train split held out for validation, in (0, 1).
        test_split: name of the split to test on; None is `test`, or `validation` without one.
        image_size: side to which images are cropped and resized; 0 takes them as they are,
            which must then be of one size. Other than 0, images are decoded as they are needed.
        center_share: with `image_size`, side of the square at the center that is looked at,
            over the shorter side of the image; 0.875 is 224 of 256.
        augment: random crop, flip, and whatever of the following fields is not 0, of the
            training images.
        crop: how to crop at random: `"pad"`, at a random position of the zero-padded image, or
            `"resized"`, a random part of it, resized (ResNet; needs `image_size`).
        crop_padding: zero pixels added on each side before the crop of `"pad"`.
        crop_area: the least share of the image that the crop of `"resized"` takes.
        flip: mirror images left-right at random (not for digits or text).
        rand_augment: magnitude of RandAugment (arXiv 1909.13719) in [0, 1]; 0 leaves it out.
        rand_augment_layers: operations of RandAugment in a row on each image.
        mixup: alpha of MixUp (arXiv 1710.09412); 0 leaves it out.
        cutmix: alpha of CutMix (arXiv 1905.04899); 0 leaves it out. Where both are given, each
            batch gets one of them, by the toss of a coin.
        label_smoothing: share of the training labels spread over all classes, in [0, 1).
        shuffle_buffer: images in the shuffle buffer; 0 holds the whole train split.
        statistics_images: train images of which mean and spread are measured; 0 is all.
        max_corrupt: images that may be unreadable, and are left out; one more is an error.
            Only with `image_size`; without, the first one is an error.

    Raises:
        ValueError: on a value out of range.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    validation_fraction: float = 0.1
    test_split: str | None = None
    image_size: int = 0
    center_share: float = 0.875
    augment: bool = True
    crop: Crop = "pad"
    crop_padding: int = 4
    crop_area: float = 0.08
    flip: bool = True
    rand_augment: float = 0.0
    rand_augment_layers: int = 2
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    shuffle_buffer: int = 0
    statistics_images: int = 0
    max_corrupt: int = 0

    def __post_init__(self) -> None:
        check(bool(self.dataset), "data.dataset", "a name or a path", self.dataset)
        check(
            0 < self.validation_fraction < 1,
            "data.validation_fraction",
            "between 0 and 1, exclusive",
            self.validation_fraction,
        )
        for name in (
            "image_size",
            "crop_padding",
            "shuffle_buffer",
            "statistics_images",
            "max_corrupt",
        ):
            check(getattr(self, name) >= 0, f"data.{name}", "at least 0", getattr(self, name))
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            # Below, both gamma variables behind a Beta variable may be 0 in float64.
            check(value == 0 or value >= 0.05, f"data.{name}", "0, or at least 0.05", value)
        for name in ("center_share", "crop_area"):
            value = getattr(self, name)
            check(0 < value <= 1, f"data.{name}", "above 0 and at most 1", value)
        check(0 <= self.rand_augment <= 1, "data.rand_augment", "in [0, 1]", self.rand_augment)
        check(
            self.rand_augment_layers >= 1,
            "data.rand_augment_layers",
            "at least 1",
            self.rand_augment_layers,
        )
        check(
            0 <= self.label_smoothing < 1,
            "data.label_smoothing",
            "at least 0 and below 1",
            self.label_smoothing,
        )
        check(
            self.crop == "pad" or self.image_size > 0,
            "data.crop",
            "pad where data.image_size is 0",
            self.crop,
        )
        check(
            self.max_corrupt == 0 or self.image_size > 0,
            "data.max_corrupt",
            "0 where data.image_size is 0",
            self.max_corrupt,
        )

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed with others of their batch."""
        return self.augment and (self.mixup > 0 or self.cutmix > 0)

    @property
    def soft_labels(self) -> bool:
        """Whether training labels are distributions over the classes."""
        return self.mixes or self.label_smoothing > 0


@dataclass(frozen=True)
class ModelConfig:
    """Which backbone to build: a name in the registry, and keyword arguments of its builder.

    Classes, input size and channels come from the data set, and both the binary network and its
    float twin are built.

    Args:
        name: of the backbone (`bitat_tf.models.names`).
        arguments: of its builder, such as `{width: 0.5}`.

    Raises:
        ValueError: when an argument is given that the recipe itself decides.
    """

    name: str = "mobilenet_v1_react_nano"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {"binary", "classes", "input_size", "input_channels"} & set(self.arguments)
        check(not given, "model.arguments", "without what the recipe itself decides", sorted(given))


@dataclass(frozen=True)
class TeacherConfig:
    """How the float twin is trained: Adam, cosine learning rate to 0, cross-entropy.

    Args:
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: peak of the cosine, reached after `warmup_steps`.
        warmup_steps: optimizer steps of a linear rise from 0 to it.

    Raises:
        ValueError: on a value out of range.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check(self.epochs >= 1, "teacher.epochs", "at least 1", self.epochs)
        check(self.batch_size >= 1, "teacher.batch_size", "at least 1", self.batch_size)
        check(self.learning_rate > 0, "teacher.learning_rate", "positive", self.learning_rate)
        check(self.warmup_steps >= 0, "teacher.warmup_steps", "at least 0", self.warmup_steps)


@dataclass(frozen=True)
class CalibrationConfig:
    """The closed-form calibration (docs/method.md, steps 1 to 7).

    Args:
        batches: number of calibration batches.
        batch_size: images per calibration batch.
        ridge: lambda of step 3, as a share of the mean of the importance vector s.
        sweeps: at most so many passes of coordinate descent over the signs (step 4).
        threshold: where the sign's threshold starts (step 6).
        compensate: map the binarized input to the target with W* (step 3); off, the signs
            stand for the teacher's own kernel.
        code_search: what the signs are chosen by (step 4): the error under the layer's
            `"correlation"`, or under its `"diagonal"` alone, which is sign(W*): no transform.
        target: what a branch is to put out: the teacher's value where it is `"joined"` to its
            shortcut less the student's own shortcut, or the teacher's own `"branch"`.
        task_weights: weigh positions by the teacher's loss gradient there (step 1's omega).
        margin: mean magnitude of each latent kernel at the start; 0 leaves it at |W*|.
        fit_head: refit the float classifier on the calibrated features in closed form.

    Raises:
        ValueError: on a value out of range.
    """

    batches: int = 8
    batch_size: int = 128
    ridge: float = 1e-2
    sweeps: int = 20
    threshold: ThresholdRule = "lloyd_max"
    compensate: bool = True
    code_search: CodeSearch = "correlation"
    target: Target = "joined"
    task_weights: bool = False
    margin: float = 0.0
    fit_head: bool = True

    def __post_init__(self) -> None:
        for name in ("batches", "batch_size", "sweeps"):
            check(
                getattr(self, name) >= 1, f"calibration.{name}", "at least 1", getattr(self, name)
            )
        check(self.ridge > 0, "calibration.ridge", "positive", self.ridge)
        check(0 <= self.margin <= 1, "calibration.margin", "between 0 and 1", self.margin)


@dataclass(frozen=True)
class StudentConfig:
    """How the binary network is trained.

    Args:
        method: `"bitat"` calibrates and then trains; the others are the field's baselines
            (`bitat_tf.train.methods`), which start from the same float weights.
        steps: optimizer steps.
        batch_size: images per step.
        learning_rate: start of the decay to 0, a cosine unless the method says otherwise.
        trainer: `"fit"` (Keras callback) or `"loop"` (the custom loop); same result.
        order: in which order layers become binary.
        progressive_steps: steps over which they do; 0 makes all binary before step 0. Of
            `"bitat"` only, as are `order` and the next four.
        refresh_steps: steps between two refreshes of each layer's tracked correlation and of
            its transform, the first before step 0; 0 leaves them as calibrated.
        quantization_loss: weight of the importance-weighted quantization error in the loss.
        release_steps: steps over which the directions of each binary kernel become 1-bit, from
            the step at which its layer becomes binary; 0 binarizes kernels at once.
        release_order: which directions become so first, the `"most_first"` important or the
            `"least_first"`.
        distill_weight: share of the teacher's distribution in the loss, in [0, 1].
        temperature: of both distributions in the distillation term.
        feature_weight: weight in the loss of the distance between the student's features and the
            teacher's behind every block; 0 leaves it out.
        batchnorm_batches: training batches from which BatchNorm statistics are recomputed
            at the end.
        log_steps: steps between two logged points of the training curve.

    Raises:
        ValueError: on a value out of range, or an option that the method does not have.
    """

    method: MethodName = "bitat"
    steps: int = 1600
    batch_size: int = 128
    learning_rate: float = 1e-3
    trainer: Trainer = "fit"
    order: Order = "bottom_up"
    progressive_steps: int = 0
    refresh_steps: int = 0
    quantization_loss: float = 0.0
    release_steps: int = 0
    release_order: ReleaseOrder = "most_first"
    distill_weight: float = 0.0
    temperature: float = 1.0
    feature_weight: float = 0.0
    batchnorm_batches: int = 16
    log_steps: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "batchnorm_batches", "log_steps"):
            check(getattr(self, name) >= 1, f"student.{name}", "at least 1", getattr(self, name))
        for name in ("learning_rate", "temperature"):
            check(getattr(self, name) > 0, f"student.{name}", "positive", getattr(self, name))
        check(
            0 <= self.progressive_steps < self.steps,
            "student.progressive_steps",
            f"at least 0 and below student.steps={self.steps}",
            self.progressive_steps,
        )
        for name in ("refresh_steps", "quantization_loss", "release_steps"):
            check(getattr(self, name) >= 0, f"student.{name}", "at least 0", getattr(self, name))
        check(
            self.progressive_steps + self.release_steps < self.steps,
            "student.release_steps",
            f"such that progressive_steps + release_steps are below student.steps={self.steps}",
            self.release_steps,
        )
        check(
            self.method == "bitat" or self.progressive_steps == 0,
            "student.progressive_steps",
            f"0 with student.method={self.method}, which has a schedule of its own",
            self.progressive_steps,
        )
        for name in ("refresh_steps", "quantization_loss", "release_steps"):
            check(
                self.method == "bitat" or getattr(self, name) == 0,
                f"student.{name}",
                f"0 with student.method={self.method}, which has no transform",
                getattr(self, name),
            )
        check(self.feature_weight >= 0, "student.feature_weight", "at least 0", self.feature_weight)
        check(
            0 <= self.distill_weight <= 1,
            "student.distill_weight",
            "between 0 and 1",
            self.distill_weight,
        )


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept on disk while a model trains (docs/resume.md); nothing of it changes a result.

    Args:
        steps: optimizer steps between two checkpoints; 0 counts none.
        seconds: one is due as well when the last is so old, for steps that take long; 0 looks at
            no clock. With both at 0 there is one at the end of a training and one on SIGTERM.
        keep: how many of the latest there are.
        best: keep the model of the best validation accuracy too, once all of it is binary.

    Raises:
        ValueError: on a value out of range.
    """

    steps: int = 200
    seconds: int = 300
    keep: int = 2
    best: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "seconds"):
            check(getattr(self, name) >= 0, f"checkpoint.{name}", "at least 0", getattr(self, name))
        check(self.keep >= 1, "checkpoint.keep", "at least 1", self.keep)


@dataclass(frozen=True)
class ScaleConfig:
    """On what the training runs (docs/scale.md); batch sizes stay those of an optimizer step.

    Args:
        strategy: `"none"`, one device; `"mirrored"`, all of this machine's; `"multiworker"`, the
            machines that the environment variable TF_CONFIG names; `"tpu"`.
        precision: of the training steps, `"float32"` or `"bfloat16"`. Weights, calibration,
            BatchNorm statistics, logits and loss are float32 always.
        jit_compile: compile the training step with XLA.
        accumulate: parts that each replica computes its images of a step in, one after the
            other; the gradients are added up. BatchNorm sees one part at a time.

    Raises:
        ValueError: on a value out of range, or XLA under a strategy that it cannot be had with.
    """

    strategy: Strategy = "none"
    precision: Precision = "float32"
    jit_compile: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        check(self.accumulate >= 1, "scale.accumulate", "at least 1", self.accumulate)
        check(
            not self.jit_compile or self.strategy in ("none", "tpu"),
            "scale.jit_compile",
            f"false with scale.strategy={self.strategy}, whose replicas exchange statistics within "
            "a step, which XLA cannot compile",
            self.jit_compile,
        )


@dataclass(frozen=True)
class LogConfig:
    """What is written for the eye while a run goes on (docs/seeing.md); it changes no result.

    Args:
        tensorboard: write TensorBoard's event files to `RUN/logs`.
    """

    tensorboard: bool = True


@dataclass(frozen=True)
class ConvertConfig:
    """What the conversion must show: parity on so many test images.

    Args:
        parity_images: test images compared between Keras and the flatbuffer; 0 is all.
        min_agreement: least share of images on which both name the same class.

    Raises:
        ValueError: on a value out of range.
    """

    parity_images: int = 1000
    min_agreement: float = 0.995

    def __post_init__(self) -> None:
        check(self.parity_images >= 0, "convert.parity_images", "at least 0", self.parity_images)
        check(
            0 < self.min_agreement <= 1,
            "convert.min_agreement",
            "above 0 and at most 1",
            self.min_agreement,
        )


@dataclass(frozen=True)
class BenchmarkConfig:
    """How often the latency is measured.

    Args:
        warmup: runs that are not counted.
        repeats: counted runs of each model, interleaved.
        threads: interpreter threads, at most 64.

    Raises:
        ValueError: on a value out of range.
    """

    warmup: int = 5
    repeats: int = 50
    threads: int = 1

    def __post_init__(self) -> None:
        check(self.warmup >= 0, "benchmark.warmup", "at least 0", self.warmup)
        for name in ("repeats", "threads"):
            check(getattr(self, name) >= 1, f"benchmark.{name}", "at least 1", getattr(self, name))
        check(self.threads <= 64, "benchmark.threads", "at most 64", self.threads)


@dataclass(frozen=True)
class Recipe:
    """One experiment from data to flatbuffer; see the sections for their fields.

    Args:
        name: of the experiment; names its run directory.
        seed: of all that is random in it, in [0, 2**31).
        data: images.
        model: backbone.
        teacher: training of the float network.
        calibration: the closed-form start of the binary one.
        student: training of the binary network.
        checkpoint: what is kept on disk meanwhile.
        scale: on what the training runs.
        log: what is written for the eye meanwhile.
        convert: what the flatbuffer must show.
        benchmark: how latency is measured.

    Raises:
        ValueError: on an empty name or a seed out of range.
    """

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    log: LogConfig = field(default_factory=LogConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)

    def __post_init__(self) -> None:
        check(bool(self.name), "name", "not empty", self.name)
        check(0 <= self.seed < 2**31, "seed", "between 0 and 2**31 - 1", self.seed)

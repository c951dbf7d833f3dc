"""Learning from the float teacher's distribution (Hinton et al. 2015, arXiv 1503.02531).

loss = (1 - w) CE(y, z) + w T^2 KL(softmax(z_teacher / T) || softmax(z / T))

To it come the distance of inner features (`features`) and penalties on the kernels, where a
method or a recipe has them. `Distilled` puts it
behind `model.fit`; both trainers run `optimizer_step`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bitat_tf._keras import keras, tf
from bitat_tf.binarize import float_twin
from bitat_tf.config import ScaleConfig
from bitat_tf.importance import quantization_error
from bitat_tf.layers import BitatConv2D
from bitat_tf.records import check
from bitat_tf.train import replicas
from bitat_tf.train.features import (
    feature_error,
    feature_names,
    target_names,
    with_features,
)
from bitat_tf.train.heads import ends_in_softmax
from bitat_tf.train.precision import bfloat16_twin


def is_soft(labels: Any) -> bool:
    """Whether labels are distributions (batch, classes), and not class indices (batch,)."""
    labels = tf.convert_to_tensor(labels)
    return labels.dtype.is_floating and labels.shape.rank == 2


def hard_labels(labels: Any) -> Any:
    """The likeliest class of every label.

    Args:
        labels: (batch,) class indices, or (batch, classes) distributions, floats, as MixUp,
            CutMix and label smoothing make them.

    Returns:
        (batch,) class indices.
    """
    return tf.argmax(labels, axis=-1) if is_soft(labels) else labels


def student_loss(
    labels: Any, logits: Any, teacher_logits: Any, weight: float, temperature: float
) -> Any:
    """Mean loss of a batch, a scalar.

    Args:
        labels: as of `hard_labels`.
        logits: (batch, classes), the student's.
        teacher_logits: (batch, classes); not looked at when `weight` is 0.
        weight: share w of the teacher's term.
        temperature: T.
    """
    if is_soft(labels):
        loss = keras.losses.categorical_crossentropy(labels, logits, from_logits=True)
    else:
        loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if weight:
        divergence = keras.losses.kl_divergence(
            tf.nn.softmax(teacher_logits / temperature), tf.nn.softmax(logits / temperature)
        )
        loss = (1.0 - weight) * loss + weight * temperature**2 * divergence
    return tf.reduce_mean(loss)


class Distilled(keras.Model):
    """A student that `fit` trains with the teacher's help; without one it is plain training.

    Only the student has trainable weights. Compile with an optimizer alone.

    Args:
        student: model to logits.
        teacher: model to logits on the same images; may be None when `weight` is 0.
        weight, temperature: of `student_loss`.
        weight_decay: variable lambda of the penalty lambda/2 |W|^2 over all convolution
            kernels, for a method that changes it during the training; None is no penalty.
        quantization_loss: weight of `mean_quantization_error`.
        feature_weight: weight of `features.feature_error`.
        scale: how a step is computed.

    Raises:
        ValueError: when a weight above 0 has no teacher, the student no binary convolution
            whose error could be in the loss, or a softmax at its end.
    """

    def __init__(
        self,
        student: Any,
        teacher: Any = None,
        weight: float = 0.0,
        temperature: float = 1.0,
        weight_decay: Any = None,
        quantization_loss: float = 0.0,
        feature_weight: float = 0.0,
        scale: ScaleConfig | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale or ScaleConfig()
        self.distribute_reduction_method = "first"  # a step's figures are those of all replicas
        check(0 <= weight <= 1, "weight", "between 0 and 1", weight)
        check(quantization_loss >= 0, "quantization_loss", "at least 0", quantization_loss)
        if quantization_loss and not _binary_convolutions(student):
            raise ValueError(
                "`quantization_loss` needs a student with binary convolutions. "
                f"Received: {student.name!r}, which has none"
            )
        check(feature_weight >= 0, "feature_weight", "at least 0", feature_weight)
        if (weight or feature_weight) and teacher is None:
            raise ValueError("`teacher` is needed to distil. Received: None")
        for model in (student, teacher):
            if model is not None and ends_in_softmax(model):
                raise ValueError(
                    f"Distillation needs models that give logits. Received: {model.name!r}, which "
                    "ends in a softmax. Make it anew up to the layer before: "
                    "`keras.Model(model.input, model.layers[-2].output)`."
                )
        self.student = student
        names = feature_names(student) if feature_weight else ()
        # Functions, which Keras does not track: the teacher's weights are not this model's.
        self.student_outputs = _outputs(_trained(student, self.scale), names, training=True)
        self.teacher_outputs = None
        if feature_weight:
            twin = float_twin(student, teacher)
            self.teacher_outputs = _outputs(twin, target_names(student), training=False)
        elif weight:
            self.teacher_outputs = _outputs(teacher, (), training=False)
        self.weight = weight
        self.temperature = temperature
        self.weight_decay = weight_decay
        self.quantization_loss = quantization_loss
        self.feature_weight = feature_weight
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy_tracker = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    @property
    def metrics(self) -> list[Any]:
        """Reset by Keras at the start of every epoch."""
        return [self.loss_tracker, self.accuracy_tracker]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The student's logits."""
        return self.student(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One optimizer step on a batch of (images, labels); returns that batch's figures."""
        images, labels = data
        loss, accuracy = optimizer_step(self, self.optimizer, images, labels)
        return {"loss": loss, "accuracy": accuracy}

    def test_step(self, data: Any) -> dict[str, Any]:
        """Cross-entropy and accuracy on a batch of (images, labels)."""
        images, labels = data
        logits = self.student(images, training=False)
        self.loss_tracker.update_state(student_loss(labels, logits, None, 0.0, 1.0))
        self.accuracy_tracker.update_state(labels, logits)
        return {metric.name: metric.result() for metric in self.metrics}


def _trained(student: Any, scale: ScaleConfig) -> Any:
    """What is called in training steps: the student, or its twin in another precision."""
    trained = student if scale.precision == "float32" else bfloat16_twin(student)
    replicas.synchronize(trained)
    return trained


def _outputs(model: Any, names: Sequence[str], training: bool) -> Callable[[Any], list[Any]]:
    """A function from images to [logits, *features]."""
    probe = with_features(model, names)
    return lambda images: tf.nest.flatten(probe(images, training=training))


def kernel_energy(model: Any) -> Any:
    """Half the squared norm of all convolution kernels, latent ones of binary layers; a scalar.

    Its gradient is the kernels themselves: what PyTorch's Adam calls weight decay, and
    ReActNet and AdamBNN apply to these weights alone.
    """
    kernels = [v for v in model.trainable_variables if len(v.shape) == 4]
    return tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(kernel)) for kernel in kernels])


def mean_quantization_error(model: Any) -> Any:
    """`importance.quantization_error`, averaged over all binary convolutions; a scalar.

    Under the correlation that each layer's transform holds. A layer that is not active counts
    with 0.
    """
    errors = [
        tf.where(
            layer.active,
            quantization_error(
                tf.convert_to_tensor(layer.kernel.latent_variable), layer.transform.correlation
            ),
            0.0,
        )
        for layer in _binary_convolutions(model)
    ]
    return tf.add_n(errors) / len(errors)


def _binary_convolutions(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, BitatConv2D)]


def optimizer_step(model: Distilled, optimizer: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    """Forward, backward and update on one batch; what both `fit` and the custom loop run.

    Under a strategy, what each replica runs on its rows of the batch.

    Returns:
        Loss and accuracy of the whole batch, scalars.
    """
    variables = model.student.trainable_variables
    parts = model.scale.accumulate
    sums: list[Any] = []
    for batch in zip(tf.split(images, parts), tf.split(labels, parts), strict=True):
        # One part after the other: its activations make room for the next part's.
        with tf.control_dependencies(sums):
            found = _gradients(model, variables, *batch)
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    loss, hits, *gradients = sums
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return replicas.total(loss), replicas.total(hits)


def _gradients(model: Distilled, variables: Sequence[Any], images: Any, labels: Any) -> list[Any]:
    """[loss, accuracy, *gradients] of some of a step's images, as addends of those of all."""
    addends = replicas.count() * model.scale.accumulate
    wanted = model.teacher_outputs(images) if model.teacher_outputs else [None]
    with tf.GradientTape() as tape:
        logits, *features = model.student_outputs(images)
        loss = student_loss(labels, logits, wanted[0], model.weight, model.temperature)
        if model.feature_weight:
            loss += model.feature_weight * feature_error(features, wanted[1:])
        loss += tf.add_n(model.student.losses) if model.student.losses else 0.0
        if model.weight_decay is not None:
            loss += model.weight_decay * kernel_energy(model.student)
        if model.quantization_loss:
            loss += model.quantization_loss * mean_quantization_error(model.student)
        loss /= addends
    hits = keras.metrics.sparse_categorical_accuracy(hard_labels(labels), logits)
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    return [loss, tf.reduce_mean(hits) / addends, *gradients]

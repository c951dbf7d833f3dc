"""The two trainers: Keras's `fit` and a custom loop, step for step the same.

Both run `distill.optimizer_step` on the same batches, and ask the same `Stages` before every
step; a test holds them to the same weights.
"""

from typing import Any, Protocol

from bitat_tf._keras import keras, tf
from bitat_tf.config import Trainer
from bitat_tf.train.distill import Distilled, optimizer_step
from bitat_tf.train.monitor import Monitor


class BeforeStep(Protocol):
    """What a trainer asks before every step, such as `Stages` or a method's `Annealing`."""

    def before_step(self, step: int) -> None:
        """Bring the student into the state that optimizer step `step` trains."""


class InTurn:
    """Several of them as one, asked in the order given."""

    def __init__(self, *parts: BeforeStep) -> None:
        self.parts = parts

    def before_step(self, step: int) -> None:
        """Ask all of them."""
        for part in self.parts:
            part.before_step(step)


def cosine_adam(learning_rate: float, steps: int, warmup_steps: int = 0) -> Any:
    """Adam whose learning rate falls along a cosine to 0 over `steps`, after a linear warm-up.

    Args:
        learning_rate: the peak.
        steps: optimizer steps in all.
        warmup_steps: steps of the linear rise from 0.
    """
    if not warmup_steps:
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    else:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, steps - warmup_steps),
            warmup_target=learning_rate,
            warmup_steps=warmup_steps,
        )
    return keras.optimizers.Adam(rate)


def train(
    model: Distilled,
    data: Any,
    steps: int,
    optimizer: Any,
    monitor: Monitor,
    *,
    stages: BeforeStep | None = None,
    trainer: Trainer = "fit",
) -> None:
    """Train `model.student` in place.

    Args:
        model: student, and teacher if it distils.
        data: endless `tf.data.Dataset` of (images, labels) batches.
        steps: the optimizer's counter at the end; it starts from where the counter stands.
        optimizer: Keras optimizer.
        monitor: told of every step.
        stages: asked before every step; None trains without a schedule.
        trainer: `"fit"` or `"loop"`.

    Raises:
        TrainingError: when the loss is no longer finite.
    """
    run = _fit if trainer == "fit" else _loop
    run(model, data, steps, optimizer, monitor, stages)


def _fit(
    model: Distilled, data: Any, steps: int, optimizer: Any, monitor: Monitor, stages: Any
) -> None:
    model.compile(optimizer=optimizer)
    left = steps - int(optimizer.iterations)
    if left > 0:
        callbacks = [_Reporter(monitor, stages)]
        model.fit(data, epochs=1, steps_per_epoch=left, verbose=0, callbacks=callbacks)


class _Reporter(keras.callbacks.Callback):
    """Runs the stages and feeds the monitor from within `fit`."""

    def __init__(self, monitor: Monitor, stages: BeforeStep | None) -> None:
        super().__init__()
        self.monitor = monitor
        self.stages = stages

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.stages is not None:
            self.stages.before_step(int(self.model.optimizer.iterations))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = int(self.model.optimizer.iterations) - 1
        self.monitor.step(step, logs["loss"], logs["accuracy"])


def _loop(
    model: Distilled, data: Any, steps: int, optimizer: Any, monitor: Monitor, stages: Any
) -> None:
    @tf.function
    def one_step(images: Any, labels: Any) -> tuple[Any, Any]:
        return optimizer_step(model, optimizer, images, labels)

    iterator = iter(data)
    for step in range(int(optimizer.iterations), steps):
        if stages is not None:
            stages.before_step(step)
        loss, accuracy = one_step(*next(iterator))
        monitor.step(step, float(loss), float(accuracy))

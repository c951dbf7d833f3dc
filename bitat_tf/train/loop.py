"""The two trainers: Keras's `fit` and a custom loop, step for step the same.

Both run `distill.optimizer_step` on the same batches, and ask the same `Stages` before every
step; a test holds them to the same weights.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from bitat_tf._keras import keras, tf
from bitat_tf.config import Trainer
from bitat_tf.quiet import without
from bitat_tf.train.distill import Distilled
from bitat_tf.train.keeper import Keeper
from bitat_tf.train.monitor import Monitor, TrainingError
from bitat_tf.train.traced import traced_step

# What a pipeline raises whose files are cut, missing, or hold too many corrupt images.
_INPUT_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,
    tf.errors.PermissionDeniedError,
)

# Of what Keras warns in `fit`: of data that end, which is an error here, and of a callback that
# takes its time, as it does where it validates and keeps the state.
_SAID = ("ran out of data", "is slow compared to the batch time")


class BeforeStep(Protocol):
    """What a trainer asks before every step, such as `Stages` or a method's `Annealing`."""

    def before_step(self, step: int) -> None:
        """Bring the student into the state that optimizer step `step` trains.

        Args:
            step: of the optimizer, from 0.
        """


class InTurn:
    """Several of them as one, asked in the order given.

    Args:
        *parts: each with a `before_step`.
    """

    def __init__(self, *parts: BeforeStep) -> None:
        self.parts = parts

    def before_step(self, step: int) -> None:
        """Ask all of them.

        Args:
            step: of the optimizer, from 0.
        """
        for part in self.parts:
            part.before_step(step)


def cosine_adam(learning_rate: float, steps: int, warmup_steps: int = 0) -> Any:
    """Adam whose learning rate falls along a cosine to 0 over `steps`, after a linear warm-up.

    Args:
        learning_rate: the peak.
        steps: optimizer steps in all.
        warmup_steps: steps of the linear rise from 0.

    Returns:
        A Keras optimizer.
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
    keeper: Keeper | None = None,
) -> None:
    """Train `model.student` in place.

    Args:
        model: student, and teacher if it distils.
        data: endless `tf.data.Dataset` of (images, labels) batches, the first for the step
            that the optimizer's counter stands at; under a strategy, of `strategy.batches`.
        steps: the optimizer's counter at the end; it starts from where the counter stands.
        optimizer: Keras optimizer.
        monitor: told of every step.
        stages: asked before every step; None trains without a schedule.
        trainer: `"fit"` or `"loop"`.
        keeper: keeps the training's state on disk; None keeps nothing.

    Raises:
        TrainingError: when the loss is no longer finite, or the data end early or cannot be
            read.
        Terminated: when SIGTERM came, once the state is kept.
    """
    run = _fit if trainer == "fit" else _loop
    watch = _Watch(monitor, keeper, steps, int(optimizer.iterations.numpy()))
    try:
        with without("tensorflow", *_SAID):
            run(model, data, steps, optimizer, watch, stages)
    except _INPUT_ERRORS as err:
        reason = " ".join(str(err.message).split())[:300]
        raise TrainingError(
            f"{monitor.title}: reading or computing step {watch.done} of {steps} failed: {reason}"
        ) from err
    if watch.done < steps:
        raise TrainingError(
            f"{monitor.title}: the data set ended after step {watch.done} of {steps}: give more "
            "images or fewer steps."
        )


@dataclass
class _Watch:
    """What is to be told of every finished step.

    `done` counts them: where the data end within `fit`, the optimizer has counted one more.
    """

    monitor: Monitor
    keeper: Keeper | None
    steps: int
    done: int

    def step(self, step: int, loss: float, accuracy: float) -> None:
        self.done = step + 1
        self.monitor.step(step, loss, accuracy)
        if self.keeper is None:
            return
        try:
            self.keeper.after_step(step + 1, last=step + 1 == self.steps)
        except FloatingPointError as err:
            raise self.monitor.failure(f"After step {step}: {err}") from err


def _fit(
    model: Distilled, data: Any, steps: int, optimizer: Any, watch: _Watch, stages: Any
) -> None:
    model.compile(optimizer=optimizer, jit_compile=model.scale.jit_compile)
    left = steps - int(optimizer.iterations.numpy())
    if left > 0:
        callbacks = [_Reporter(watch, stages)]
        model.fit(data, epochs=1, steps_per_epoch=left, verbose=0, callbacks=callbacks)


class _Reporter(keras.callbacks.Callback):
    """Runs the stages and tells of the steps from within `fit`."""

    def __init__(self, watch: _Watch, stages: BeforeStep | None) -> None:
        super().__init__()
        self.watch = watch
        self.stages = stages

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.stages is not None:
            self.stages.before_step(int(self.model.optimizer.iterations.numpy()))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = int(self.model.optimizer.iterations.numpy()) - 1
        self.watch.step(step, logs["loss"], logs["accuracy"])


def _loop(
    model: Distilled, data: Any, steps: int, optimizer: Any, watch: _Watch, stages: Any
) -> None:
    one_step = traced_step(model, optimizer)
    first = int(optimizer.iterations.numpy())
    for step, (images, labels) in zip(range(first, steps), data, strict=False):
        if stages is not None:
            stages.before_step(step)
        loss, accuracy = one_step(images, labels)
        watch.step(step, float(loss), float(accuracy))

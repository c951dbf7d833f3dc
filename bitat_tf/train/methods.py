"""Methods to train a binary network: BiTAT, and what the field would do instead.

All start from the same float teacher's weights, on the same backbone (learnable thresholds and
RPReLU included, thresholds from 0), and share data, steps, Adam and the recomputation of
BatchNorm. What a method changes is stated here, one entry of `METHODS` each; a new one is one
more entry (and its name in `config.MethodName`).

A method is a pure function of the step. Its measure is the *share*, (step + 1) / steps: above 0,
and 1 at the last step. `train.annealing` obeys it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bitat_tf._keras import keras, tf
from bitat_tf.quantizers import ACTIVATION_QUANTIZER, KERNEL_QUANTIZER
from bitat_tf.records import check
from bitat_tf.train.loop import cosine_adam

# (share of the training, position of the unit from the bottom, units in all) -> [0, 1]
Progress = Callable[[float, int, int], float]

# StoMPP: all is binary over the last tenth, so that the head and the BatchNorms settle. Ours.
_MASKED_SHARE = 0.9

_HALF = 0.5


def steadily(share: float, position: int, units: int) -> float:
    """The same progress everywhere, from the first step to the last."""
    return share


def in_second_half(share: float, position: int, units: int) -> float:
    """0 in the first half of the steps, 1 in the second."""
    return 0.0 if share <= _HALF else 1.0


def layer_by_layer(share: float, position: int, units: int) -> float:
    """One unit after the other, from the input to the output, each over an equal stretch."""
    return min(1.0, max(0.0, share * units / _MASKED_SHARE - position))


@dataclass(frozen=True)
class Phase:
    """A stretch of the training with a learning-rate decay of its own, from full to 0.

    Attributes:
        end: share of the steps at which it ends.
        weight_decay: on the convolution kernels (`distill.kernel_energy`).
    """

    end: float = 1.0
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Method:
    """One way to a binary network.

    Attributes:
        name: as in `student.method`.
        meaning: in one sentence.
        paper: where it comes from.
        activation_quantizer, kernel_quantizer: of the binary layers, by name.
        calibrated: whether the closed-form calibration comes before the training.
        progress: of the annealed quantizers of each unit, 0 also meaning that the unit is not
            binary yet when `gradual` is set.
        gradual: units become binary when their progress leaves 0; else all are from step 0.
        phases: of learning rate and weight decay, in order; the last ends at 1.
        decay: of the learning rate within a phase.
        distill_weight: replaces the recipe's; None leaves it.

    Raises:
        ValueError: when the phases do not ascend to 1.
    """

    name: str
    meaning: str
    paper: str
    activation_quantizer: str = ACTIVATION_QUANTIZER
    kernel_quantizer: str = KERNEL_QUANTIZER
    calibrated: bool = False
    progress: Progress = steadily
    gradual: bool = False
    phases: tuple[Phase, ...] = (Phase(),)
    decay: Literal["cosine", "linear"] = "cosine"
    distill_weight: float | None = None

    def __post_init__(self) -> None:
        ends = [phase.end for phase in self.phases]
        check(
            ends == sorted(set(ends)) and ends[-1:] == [1.0] and ends[0] > 0,
            "phases",
            "in ascending order, the last ending at 1",
            ends,
        )

    @property
    def layer_options(self) -> dict[str, str]:
        """Arguments of a backbone's builder."""
        return {
            "activation_quantizer": self.activation_quantizer,
            "kernel_quantizer": self.kernel_quantizer,
        }

    @property
    def decays_weights(self) -> bool:
        """Whether any phase has a weight decay."""
        return any(phase.weight_decay for phase in self.phases)

    def weight_decay(self, share: float) -> float:
        """Of the phase that a share of the training belongs to.

        Args:
            share: of the training that is over, in [0, 1].

        Returns:
            Adam's weight decay there.
        """
        return next(phase for phase in self.phases if share <= phase.end).weight_decay

    def optimizer(self, learning_rate: float, steps: int) -> Any:
        """Adam under this method's learning rate.

        Args:
            learning_rate: start of the decay.
            steps: optimizer steps in all.

        Returns:
            A Keras optimizer.
        """
        if self.decay == "cosine" and len(self.phases) == 1:
            return cosine_adam(learning_rate, steps)
        ends = tuple(int(phase.end * steps) for phase in self.phases)
        return keras.optimizers.Adam(PhasedDecay(learning_rate, ends, self.decay))


class PhasedDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that falls from its start to 0 within each of several phases.

    Args:
        learning_rate: at the start of every phase.
        ends: first step after each phase, ascending.
        decay: `"cosine"` or `"linear"`.
    """

    def __init__(self, learning_rate: float, ends: tuple[int, ...], decay: str) -> None:
        self.learning_rate = learning_rate
        self.ends = tuple(ends)
        self.decay = decay

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, a scalar."""
        step = tf.cast(step, tf.float32)
        starts = (0, *self.ends[:-1])
        rate = tf.zeros(())
        for start, end in zip(starts, self.ends, strict=True):
            done = (step - start) / max(1, end - start)
            left = 1.0 - done
            if self.decay == "cosine":
                left = 0.5 * (1.0 + tf.cos(done * math.pi))
            inside = tf.logical_and(step >= start, step < end)
            rate += tf.where(inside, self.learning_rate * left, 0.0)
        return rate

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"learning_rate": self.learning_rate, "ends": self.ends, "decay": self.decay}


_ALL = (
    Method(
        "bitat",
        "Closed-form calibration on the teacher's activations, then training.",
        "arXiv 2207.01394",
        calibrated=True,
    ),
    Method(
        "ste",
        "Signs with a straight-through gradient, for activations and kernels (BNN).",
        "arXiv 1602.02830",
        activation_quantizer="ste_sign",
    ),
    Method(
        "xnor",
        "As ste, with a scale mean|w| per output channel (XNOR-Net).",
        "arXiv 1603.05279",
        activation_quantizer="ste_sign",
        kernel_quantizer="magnitude_aware_sign",
    ),
    Method(
        "bireal",
        "As xnor, with a piecewise quadratic gradient for the activations (Bi-Real Net).",
        "arXiv 1808.00278",
        kernel_quantizer="magnitude_aware_sign",
    ),
    Method(
        "react-two-step",
        "Binary activations with float kernels and weight decay for half of the steps, then "
        "both binary without (ReActNet).",
        "arXiv 2003.03488",
        kernel_quantizer="staged_sign",
        progress=in_second_half,
        phases=(Phase(_HALF, weight_decay=1e-5), Phase()),
        decay="linear",
    ),
    Method(
        "adambnn",
        "As react-two-step with half its weight decay, the teacher's distribution as the only "
        "loss (ReActNet with AdamBNN's recipe).",
        "arXiv 2106.11309",
        kernel_quantizer="staged_sign",
        progress=in_second_half,
        phases=(Phase(_HALF, weight_decay=5e-6), Phase()),
        decay="linear",
        distill_weight=1.0,
    ),
    Method(
        "irnet",
        "Balanced kernels, and a gradient that sharpens from nearly linear to nearly the "
        "sign's own (IR-Net).",
        "arXiv 1909.10788",
        activation_quantizer="ede_sign",
        kernel_quantizer="libra_sign",
    ),
    Method(
        "recu",
        "Standardised kernels whose tails are clamped, less and less (ReCU).",
        "arXiv 2103.12369",
        kernel_quantizer="recu_sign",
    ),
    Method(
        "stompp",
        "From input to output, a growing random share of each layer's weights and activations "
        "is binary, without a gradient through them (StoMPP, our reading).",
        "arXiv 2601.22660",
        activation_quantizer="masked_sign",
        kernel_quantizer="masked_kernel",
        progress=layer_by_layer,
        gradual=True,
    ),
    Method(
        "stompp-ste",
        "As stompp, with a straight-through gradient for what is binary (our reading).",
        "arXiv 2606.27759",
        activation_quantizer="masked_ste_sign",
        kernel_quantizer="masked_ste_kernel",
        progress=layer_by_layer,
        gradual=True,
    ),
)

METHODS = {method.name: method for method in _ALL}
"""The registered methods by name."""


def method(name: str) -> Method:
    """A registered method.

    Args:
        name: as in `student.method`.

    Returns:
        The method.

    Raises:
        ValueError: when there is none of this name.
    """
    check(name in METHODS, "method", f"one of {', '.join(METHODS)}", name)
    return METHODS[name]

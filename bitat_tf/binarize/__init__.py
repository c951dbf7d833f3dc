"""Any functional or Sequential Keras model -> its binary version, and a report of what was done.

1. `flatten`: the given model without nesting, fused activations and separable convolutions;
2. `rules`, in order, write into a `plan` what becomes binary, what must not, and why;
3. `build` carries the plan out: every binary layer is `RSign` -> `BitatConv2D` ->
   BatchNormalization, with the float network's weights, and often a `Shortcut` around it;
4. `predict` says what becomes of it in the flatbuffer.

With all units switched off the student computes the given model's function. `float_twin` is
that model in the student's layers, which calibration takes its targets from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.binarize import reasons
from bitat_tf.binarize.build import build
from bitat_tf.binarize.flatten import Flat, flatten
from bitat_tf.binarize.plan import Decision, Plan, Reason, own_batchnorm
from bitat_tf.binarize.predict import BYTES_PER_FILE, Prediction, predict
from bitat_tf.binarize.reasons import FIRST_AND_LAST
from bitat_tf.binarize.refuse import refuse
from bitat_tf.binarize.report import BinarizeReport, LayerReport, OperatorPrediction
from bitat_tf.binarize.rules import DEFAULT_RULES, Rule, without
from bitat_tf.binarize.suggest import suggestions
from bitat_tf.binarize.twin import float_twin
from bitat_tf.graph import binary_units
from bitat_tf.quantizers import ACTIVATION_QUANTIZER, KERNEL_QUANTIZER

# float32 sums in another order, relative to the largest output. A wrong rewrite is far off.
_SAME = 1e-3


def binarize(
    model: Any,
    *,
    keep_float: Sequence[str] = FIRST_AND_LAST,
    rules: Sequence[Rule] = DEFAULT_RULES,
    example_input: Any = None,
    activation_quantizer: str = ACTIVATION_QUANTIZER,
    kernel_quantizer: str = KERNEL_QUANTIZER,
    thresholds: int = 1,
    max_block: int = 1152,
) -> tuple[Any, BinarizeReport]:
    """Make the binary version of a float model.

    All its units are active, and nothing is calibrated yet: `bitat_tf.calibrate(student, model,
    images)` does that, with this very model as the teacher.

    Args:
        model: functional or Sequential, nested models included, channels last; never changed.
            Its weights are where the student starts.
        keep_float: what stays float: layer names or patterns of them (`"block1_*"`), `"first"`
            (layers with no convolution or dense layer before them) and `"last"` (with none
            behind them).
        rules: in order; see `bitat_tf.binarize.rules`, and `without` to leave some out.
        example_input: an array (batch, height, width, channels), or one per input. It fixes
            sizes that the model leaves open, and the float network in the student's layers is
            compared with the given model on it.
        activation_quantizer, kernel_quantizer, thresholds, max_block: of the binary layers, as
            the backbones of `bitat_tf.models` take them.

    Returns:
        A functional model with the given one's inputs and outputs, all of it trainable, and the
        report.

    Raises:
        ValueError: when the model is subclassed, not built, without weights, of unknown size
            (and no `example_input` says it), channels_first, not float32 or binary already; a
            layer cannot be made again from its configuration; `keep_float` names no layer; or
            the rewritten float network does not compute the same on `example_input`.
    """
    refuse(model, example_input)
    flat = flatten(model, example_input)
    plan = _planned(flat, keep_float, rules)
    student, owners = build(
        flat.model,
        plan.decisions,
        binary=True,
        quantizers={
            "activation_quantizer": activation_quantizer,
            "kernel_quantizer": kernel_quantizer,
            "thresholds": thresholds,
            "max_block": max_block,
        },
    )
    if example_input is not None:
        _check_same(model, float_twin(student, model), example_input)
    return student, _report(plan, predict(student), owners, model.name)


def _planned(flat: Flat, wanted: Sequence[str], rules: Sequence[Rule]) -> Plan:
    plan = Plan(flat.model, flat.kinds)
    reasons.keep_float(plan, wanted)
    for rule in rules:
        rule.apply(plan)
    for decision in plan.binary:
        own = own_batchnorm(plan.graph, decision.call)
        reasons.require_batchnorm(decision, own)
        if decision.binary:
            _describe_batchnorm(decision, own)
    reasons.explain(plan)
    return plan


def _describe_batchnorm(decision: Decision, own: Any) -> None:
    if own is None:
        decision.actions.append("BatchNormalization added behind it")
    elif decision.layer.use_bias:
        decision.actions.append(f"bias moved into {own.name}")


def _report(plan: Plan, predictions: Any, owners: dict[str, str], name: str) -> BinarizeReport:
    size: dict[str, int] = {}
    operators: dict[str, tuple[OperatorPrediction, ...]] = {}
    for layer, prediction in predictions.items():
        owner = owners[layer]
        size[owner] = size.get(owner, 0) + prediction.size_bytes
        operators[owner] = operators.get(owner, ()) + prediction.operators
    layers = tuple(
        LayerReport(
            name=d.name,
            kind=d.kind,
            binary=d.binary,
            action="; ".join(d.actions),
            reason=d.reason.text if d.reason else "",
            remedy=d.reason.remedy if d.reason else "",
            operators=operators.get(d.name, ()),
            parameters=d.layer.count_params(),
            size_bytes=size.get(d.name, 0),
        )
        for d in plan.decisions.values()
    )
    return BinarizeReport(name, layers, BYTES_PER_FILE, suggestions(layers))


def _check_same(model: Any, twin: Any, example_input: Any) -> None:
    pairs = zip(
        tf.nest.flatten(model(example_input, training=False)),
        tf.nest.flatten(twin(example_input, training=False)),
        strict=True,
    )
    for expected, actual in pairs:
        scale = max(float(np.max(np.abs(expected))), 1e-30)
        error = float(np.max(np.abs(np.asarray(expected) - np.asarray(actual)))) / scale
        if not error <= _SAME:
            raise ValueError(
                f"The float network in the student's layers differs from `model` {model.name!r} "
                f"by {error:.1e} of its largest output on `example_input`. Write its unusual "
                "layers in plain Keras, or name them in `keep_float`."
            )


__all__ = [
    "DEFAULT_RULES",
    "FIRST_AND_LAST",
    "BinarizeReport",
    "Decision",
    "LayerReport",
    "OperatorPrediction",
    "Plan",
    "Prediction",
    "Reason",
    "Rule",
    "binarize",
    "binary_units",
    "flatten",
    "float_twin",
    "without",
]

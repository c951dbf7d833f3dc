"""What must not become binary, though it looks like it: LCE's limits, and ours."""

from bitat_tf._keras import keras
from bitat_tf.binarize.plan import Decision, Plan, Reason
from bitat_tf.graph import Call

_layers = keras.layers

# What may stand between the convolutions of a gate, and between the last and the product.
_WITHIN_A_GATE = (
    _layers.Activation,
    _layers.ReLU,
    _layers.Softmax,
    _layers.Dropout,
    _layers.Reshape,
    _layers.Permute,
    _layers.Dense,
    _layers.Conv2D,
    _layers.BatchNormalization,
    _layers.Rescaling,
)
_MULTIPLICATIONS = ("__operators__.mul", "math.multiply")


class GroupedConvolution:
    """Objects to groups: LCE runs them, if at all, on its reference and indirect kernels only."""

    name = "grouped"

    def apply(self, plan: Plan) -> None:
        """Object to convolutions with groups."""
        for decision in plan.binary:
            groups = getattr(decision.layer, "groups", 1)
            if groups != 1:
                decision.keep_float(
                    Reason(
                        f"a convolution with {groups} groups, for which LCE has no fast 1-bit "
                        "kernel",
                        "use groups=1",
                    )
                )


class SharedLayer:
    """Objects to layers called more than once: one set of signs cannot fit two places."""

    name = "shared"

    def apply(self, plan: Plan) -> None:
        """Object to all of them."""
        for decision in plan.binary:
            if len(decision.calls) > 1:
                decision.keep_float(
                    Reason(
                        f"its weights are shared by {len(decision.calls)} calls, and calibration "
                        "fits a layer to one input",
                        "give each call a layer of its own",
                    )
                )


class Gate:
    """Objects to squeeze-and-excitation: a gate is small, and 1 bit of it says little.

    A gate is a chain of dense layers and convolutions on 1x1 maps that ends in a product with
    another tensor.
    """

    name = "gate"

    def apply(self, plan: Plan) -> None:
        """Object to what stands in one."""
        for decision in plan.binary:
            if _reads_one_position(decision) and _ends_in_product(plan, decision.call):
                decision.keep_float(
                    Reason(
                        "part of a squeeze-and-excitation gate: one position per image, next to "
                        "no work, and its factor needs more than 1 bit"
                    )
                )


def _reads_one_position(decision: Decision) -> bool:
    return all(size == 1 for size in decision.call.input_shapes[0][1:-1])


def _ends_in_product(plan: Plan, call: Call) -> bool:
    behind: Call | None = call
    while behind is not None:
        behind = plan.graph.only_consumer(behind.outputs[0])
        if behind is None:
            return False
        if len(behind.inputs) > 1:
            return _multiplies(behind)
        # Keras writes hard_sigmoid in TensorFlow's own operations.
        operation = type(behind.layer).__name__ == "TFOpLambda"
        if not operation and not isinstance(behind.layer, _WITHIN_A_GATE):
            return False
    return False


def _multiplies(call: Call) -> bool:
    if type(call.layer).__name__ == "TFOpLambda":
        return call.layer.get_config()["function"] in _MULTIPLICATIONS
    return isinstance(call.layer, _layers.Multiply)

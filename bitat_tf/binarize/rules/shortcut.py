"""A shortcut around a binary convolution, which carries what the sign drops (Bi-Real Net)."""

from bitat_tf._keras import keras
from bitat_tf.binarize.plan import Around, Decision, Plan
from bitat_tf.graph import Call


class AddShortcut:
    """Adds what a binary convolution reads to what it puts out, where the shapes allow.

    They do where channels are kept, and the map too or, by an average pool, at a stride. No
    shortcut is added to a branch that ends in an addition of the model's own. The float network
    has none of these: with a shortcut, a student computes another function than the float
    network until it is calibrated (arXiv 1808.00278).
    """

    name = "shortcut"

    def apply(self, plan: Plan) -> None:
        """Plan them."""
        for decision in plan.binary:
            decision.shortcut = "" if _has_one(plan, decision) else _fitting(plan, decision)
            if decision.shortcut:
                pooled = " average-pooled" if decision.shortcut == "pool" else ""
                decision.actions.append(f"{pooled} shortcut around it".strip())


def _fitting(plan: Plan, decision: Decision) -> Around:
    call = decision.call
    source, output = _unpadded(plan, call), call.output_shapes[0]
    if source[-1] != output[-1]:
        return ""
    if source[1:] == output[1:]:
        return "identity"
    strides = getattr(decision.layer, "strides", (1, 1))
    pooled = tuple(-(-size // stride) for size, stride in zip(source[1:-1], strides, strict=True))
    return "pool" if strides != (1, 1) and pooled == output[1:-1] else ""


def _unpadded(plan: Plan, call: Call) -> tuple[int, ...]:
    """Shape of what the convolution reads, before a ZeroPadding2D in front."""
    before = plan.producer(call.inputs[0])
    if before is not None and type(before.layer) is keras.layers.ZeroPadding2D:
        return before.input_shapes[0]
    return call.input_shapes[0]


def _has_one(plan: Plan, decision: Decision) -> bool:
    graph = plan.graph
    behind = graph.only_consumer(decision.call.outputs[0])
    if behind is not None and isinstance(behind.layer, keras.layers.BatchNormalization):
        behind = graph.only_consumer(behind.outputs[0])
    return behind is not None and isinstance(behind.layer, keras.layers.Add)

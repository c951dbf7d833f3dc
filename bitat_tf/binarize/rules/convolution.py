"""What becomes binary: convolutions, and what computes like one."""

from bitat_tf._keras import keras
from bitat_tf.binarize.plan import Plan, Reason

_layers = keras.layers

_SEPARABLE = "SeparableConv2D"

_SIGN_AND_CONVOLUTION = "sign, then a 1-bit convolution"


class Convolution:
    """Conv2D: an `RSign` in front, a `BitatConv2D` in its place."""

    name = "convolution"

    def apply(self, plan: Plan) -> None:
        """Plan all of them, but for the pointwise ones of separable convolutions."""
        for decision in plan.of_type(_layers.Conv2D):
            if decision.kind != _SEPARABLE:
                decision.make_binary(_SIGN_AND_CONVOLUTION)


class Pointwise:
    """The 1x1 convolution of a SeparableConv2D; its depthwise one stays float."""

    name = "pointwise"

    def apply(self, plan: Plan) -> None:
        """Plan all of them."""
        for decision in plan.of_type(_layers.Conv2D):
            if decision.kind == _SEPARABLE:
                decision.make_binary(
                    f"split off its depthwise convolution; {_SIGN_AND_CONVOLUTION}"
                )


class DenseLayer:
    """Dense: a 1x1 convolution, on flat features behind a Reshape (LCE has no binary dense)."""

    name = "dense"

    def apply(self, plan: Plan) -> None:
        """Plan those that read (batch, features) or (batch, height, width, features)."""
        for decision in plan.of_type(_layers.Dense):
            if len(decision.call.input_shapes[0]) in (2, 4):
                decision.make_binary("sign, then a 1-bit 1x1 convolution")
            else:
                decision.keep_float(
                    Reason(
                        f"a dense layer on an input of shape {decision.call.input_shapes[0]}: only "
                        "flat features and feature maps can be read as a 1x1 convolution",
                        "reshape its input to (height, width, channels)",
                    )
                )

"""convolution -> BatchNormalization -> activation: the order that calibration and LCE need."""

from bitat_tf.binarize.plan import Plan


class BatchNorm:
    """A BatchNormalization right behind every binary convolution.

    It holds the scale that a kernel of +-1 lacks, and LCE fuses it into the convolution. Where
    the model has one there, it stays; else the layer gets one that changes nothing yet. A bias
    goes into it. Without this rule a convolution without its own stays float.
    """

    name = "batchnorm"

    def apply(self, plan: Plan) -> None:
        """Allow it for all binary layers."""
        for decision in plan.binary:
            decision.insert_batchnorm = True

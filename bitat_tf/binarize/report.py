"""What `binarize` did, as records: frozen, comparable, to and from JSON (`bitat_tf.records`)."""

from dataclasses import dataclass

from bitat_tf.records import check


@dataclass(frozen=True)
class OperatorPrediction:
    """An operator with weights that a layer becomes in the flatbuffer.

    Attributes:
        type: TFLite's or LCE's name, as in `convert.audit`.
        kernel_shape: (c_out, kh, kw, c_in), as in `convert.audit`.
        macs: multiply-accumulates of one inference.
    """

    type: str
    kernel_shape: tuple[int, ...]
    macs: int


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    Attributes:
        name: of the layer in the student.
        kind: class of the layer in the given model.
        binary: whether it runs as LceBconv2d.
        action: what was done, empty where the layer is as it was.
        reason: why it stays float, empty where it does not, or has nothing to multiply.
        remedy: what its owner can do about that, empty where nothing.
        operators: with weights, that it is expected to become.
        parameters: weights of the given layer.
        size_bytes: expected in the flatbuffer, operators without weights included.
    """

    name: str
    kind: str
    binary: bool
    action: str
    reason: str
    remedy: str
    operators: tuple[OperatorPrediction, ...]
    parameters: int
    size_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, 1-bit ones if the layer is binary."""
        return sum(operator.macs for operator in self.operators)


@dataclass(frozen=True)
class BinarizeReport:
    """What became of a model, and what the flatbuffer is expected to be.

    Attributes:
        model: its name.
        layers: in the order of the graph.
        overhead_bytes: of the flatbuffer that belong to no layer.
        suggestions: the most useful changes to the model, best first.
    """

    model: str
    layers: tuple[LayerReport, ...]
    overhead_bytes: int
    suggestions: tuple[str, ...] = ()

    def __str__(self) -> str:
        from bitat_tf.binarize.table import text  # which shows the records of this module

        return text(self)

    def layer(self, name: str) -> LayerReport:
        """The record of a layer.

        Args:
            name: of the layer.

        Returns:
            Its record.

        Raises:
            ValueError: when there is none of this name.
        """
        found = [layer for layer in self.layers if layer.name == name]
        names = ", ".join(layer.name for layer in self.layers)
        check(bool(found), "name", f"one of {names}", name)
        return found[0]

    @property
    def binary_layers(self) -> tuple[str, ...]:
        """Names of the layers that run as LceBconv2d."""
        return tuple(layer.name for layer in self.layers if layer.binary)

    @property
    def operators(self) -> tuple[OperatorPrediction, ...]:
        """All expected operators with weights."""
        return tuple(operator for layer in self.layers for operator in layer.operators)

    @property
    def predicted_size_bytes(self) -> int:
        """Of the flatbuffer."""
        return self.overhead_bytes + sum(layer.size_bytes for layer in self.layers)

    @property
    def binary_macs(self) -> int:
        """1-bit multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers if layer.binary)

    @property
    def float_macs(self) -> int:
        """All other multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers if not layer.binary)

"""Carrying a plan out: the student, or the float network in the student's terms.

Both come from the same code and differ in what is 1-bit: in the *twin* a binary layer is an
ordinary Conv2D, there is no `RSign` and no `Shortcut`, and what it computes is what the given
model does. Every other layer has the same name and the same weights in both.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bitat_tf._keras import keras
from bitat_tf.binarize.plan import Decision, own_batchnorm
from bitat_tf.graph import Call, Graph, clone, copy_weights, rebuild
from bitat_tf.layers import BitatConv2D, RSign, Shortcut
from bitat_tf.quantizers import ACTIVATION_QUANTIZER

_layers = keras.layers

# The statistics of a network whose signs flip follow it within ten steps, not within a hundred.
_BATCHNORM_MOMENTUM = 0.9

# Of the convolution's arguments, those that a BitatConv2D has as well.
_KEPT = ("filters", "kernel_size", "strides", "padding", "dilation_rate")


def build(
    flat: Any,
    decisions: Mapping[str, Decision],
    *,
    binary: bool,
    quantizers: Mapping[str, Any] | None = None,
) -> tuple[Any, dict[str, str]]:
    """A new model in which every decision is carried out.

    Args:
        flat: what `flatten` gave; never changed.
        decisions: by layer name; those that are not binary change nothing.
        binary: the student; else the twin.
        quantizers: `activation_quantizer`, `thresholds`, `kernel_quantizer` and `max_block` of
            the binary layers.

    Returns:
        The model, and for each of its layers the name of the flat one it belongs to.
    """
    builder = _Builder(flat, decisions, binary, dict(quantizers or {}))
    model = rebuild(flat, builder.replace)
    for old, new in builder.copied:
        copy_weights(old, new)
    for layer, weights in builder.weights:
        variables = [layer.kernel.latent_variable] if isinstance(layer, BitatConv2D) else None
        for variable, value in zip(variables or layer.weights, weights, strict=True):
            variable.assign(value)
    owners = {layer.name: builder.owners.get(layer.name, layer.name) for layer in model.layers}
    return model, owners


class _Builder:
    """The replacements, and what weights the new layers take once they are built."""

    def __init__(
        self,
        flat: Any,
        decisions: Mapping[str, Decision],
        binary: bool,
        quantizers: dict[str, Any],
    ) -> None:
        self.graph = Graph(flat)
        self.binary = binary
        self.sign_options = {
            "quantizer": quantizers.pop("activation_quantizer", ACTIVATION_QUANTIZER),
            "thresholds": quantizers.pop("thresholds", 1),
        }
        self.quantizers = quantizers
        self.decisions = {d.name: d for d in decisions.values() if d.binary}
        self.absorbed = {call.layer.name for call in self.graph.calls if self._vanishes(call)}
        self.batchnorms: dict[str, Decision] = {}
        for decision in self.decisions.values():
            own = own_batchnorm(self.graph, decision.call)
            if own is not None:
                self.batchnorms[own.name] = decision
        self.taken = {call.layer.name for call in self.graph.calls} | set(flat.input_names)
        self.owners: dict[str, str] = {}
        self.copied: list[tuple[Any, Any]] = []
        self.weights: list[tuple[Any, list[np.ndarray]]] = []
        # By the id of a symbolic tensor, which the values keep alive: what was made of it.
        self._signs: dict[int, Any] = {}
        self._maps: dict[int, Any] = {}
        self._unpadded: dict[int, Any] = {}
        self._sources: dict[str, Any] = {}
        self._kept: list[Any] = []

    def replace(self, call: Call) -> Callable[..., Any] | None:
        """What stands in a call's place; None where the layer stays as it is."""
        layer = call.layer
        if layer.name in self.decisions:
            return self._convolution(self.decisions[layer.name])
        if layer.name in self.batchnorms:
            return self._own_batchnorm(layer, self.batchnorms[layer.name])
        if type(layer) is _layers.ZeroPadding2D:
            return self._padding(layer)
        changes = self._changes(layer)
        if not changes:
            return None
        new = clone(layer, **changes)
        self.copied.append((layer, new))
        return new

    def _vanishes(self, call: Call) -> bool:
        """Whether all that read a padding take it into themselves."""
        readers = self.graph.consumers[call.outputs[0]]
        names = [self.decisions.get(reader.layer.name) for reader in readers]
        return bool(names) and all(d and d.absorbed == call.layer.name for d in names)

    def _changes(self, layer: Any) -> dict[str, Any]:
        """What a layer that stays float learns with in the student."""
        changes: dict[str, Any] = {}
        if not layer.trainable and layer.weights:
            changes["trainable"] = True  # frozen parts must follow what becomes 1-bit below them
        if isinstance(layer, _layers.BatchNormalization) and layer.momentum > _BATCHNORM_MOMENTUM:
            changes["momentum"] = _BATCHNORM_MOMENTUM
        return changes

    def _padding(self, layer: Any) -> Callable[..., Any]:
        if self.binary and layer.name in self.absorbed:
            return lambda x, **_: x
        padding = clone(layer)

        def pad(x: Any, **_: Any) -> Any:
            y = padding(x)
            self._unpadded[id(y)] = x
            self._kept.append(y)
            return y

        return pad

    def _convolution(self, decision: Decision) -> Callable[..., Any]:
        layer = decision.layer
        kernel, *bias = layer.get_weights()
        kernel = kernel.reshape(1, 1, *kernel.shape) if kernel.ndim == 2 else kernel
        new = self._new_convolution(decision, kernel)
        # Each of several thresholds shows the convolution all channels once more.
        parts = self.sign_options["thresholds"] if self.binary else 1
        self.weights.append((new, [np.concatenate([kernel / parts] * parts, axis=2)]))
        insert = own_batchnorm(self.graph, decision.call) is None
        batchnorm = self._new_batchnorm(decision, bias) if insert else None
        flat_features = len(decision.call.input_shapes[0]) == 2

        def convolve(x: Any, **_: Any) -> Any:
            features = self._as_map(x, decision) if flat_features else x
            self._sources[decision.name] = self._unpadded.get(id(features), features)
            y = new(self._signed(features, decision))
            if batchnorm is not None:
                y = self._joined(batchnorm(y), decision)
            return y

        if not flat_features or not insert:
            return convolve  # behind the model's own BatchNormalization stands the Reshape back
        back = self._reshape(decision, (int(kernel.shape[-1]),), "flat")
        return lambda x, **_: back(convolve(x))

    def _new_convolution(self, decision: Decision, kernel: np.ndarray) -> Any:
        if isinstance(decision.layer, _layers.Dense):
            arguments: dict[str, Any] = {"filters": kernel.shape[-1], "kernel_size": 1}
        else:
            config = decision.layer.get_config()
            arguments = {key: config[key] for key in _KEPT}
        # No regularizer: weight decay pulls latent weights towards a flip, and says nothing of +-1.
        arguments["name"] = decision.name
        if not self.binary:
            return _layers.Conv2D(**arguments, use_bias=False)
        if decision.absorbed in self.absorbed:
            arguments["padding"] = "same"
        return BitatConv2D(**arguments, **self.quantizers)

    def _new_batchnorm(self, decision: Decision, bias: list[np.ndarray]) -> Any:
        """One that adds the bias and does nothing else, until it is calibrated or trained."""
        layer = _layers.BatchNormalization(
            momentum=_BATCHNORM_MOMENTUM,
            name=self._new_name(f"{decision.name}_batchnorm", decision),
        )
        channels = decision.call.output_shapes[0][-1]
        ones = np.ones(channels, "float32")
        gamma = ones * np.sqrt(1.0 + layer.epsilon)
        beta = bias[0] if bias else np.zeros_like(ones)
        self.weights.append((layer, [gamma, beta, np.zeros_like(ones), ones]))
        return layer

    def _own_batchnorm(self, layer: Any, decision: Decision) -> Callable[..., Any]:
        """The model's own, with scale and offset whether it had them or not, and the bias in it."""
        new = clone(
            layer,
            axis=-1,
            scale=True,
            center=True,
            momentum=min(layer.momentum, _BATCHNORM_MOMENTUM),
            trainable=True,
        )
        bias = decision.layer.get_weights()[1:]
        mean, variance = (v.numpy() for v in (layer.moving_mean, layer.moving_variance))
        gamma = layer.gamma.numpy() if layer.scale else np.ones_like(mean)
        beta = layer.beta.numpy() if layer.center else np.zeros_like(mean)
        self.weights.append((new, [gamma, beta, mean - bias[0] if bias else mean, variance]))
        self.owners[layer.name] = decision.name
        if len(decision.call.input_shapes[0]) != 2:
            return lambda x, **_: self._joined(new(x), decision)
        back = self._reshape(decision, (len(mean),), "flat")
        return lambda x, **_: back(self._joined(new(x), decision))

    def _joined(self, y: Any, decision: Decision) -> Any:
        """A branch's end: behind the BatchNormalization, the shortcut."""
        if not self.binary or not decision.shortcut:
            return y
        source = self._sources[decision.name]
        if decision.shortcut == "pool":
            name = self._new_name(f"{decision.name}_shortcut_pool", decision)
            pool = _layers.AveragePooling2D(decision.layer.strides, padding="same", name=name)
            source = pool(source)
        return Shortcut(name=self._new_name(f"{decision.name}_shortcut", decision))([y, source])

    def _signed(self, x: Any, decision: Decision) -> Any:
        """One sign for all convolutions that read a tensor: they become binary together."""
        if not self.binary:
            return x
        if id(x) not in self._signs:
            name = self._new_name(f"{decision.name}_sign", decision)
            sign = RSign(name=name, **self.sign_options)
            self._signs[id(x)] = sign(x)
            self._kept.append(x)
        return self._signs[id(x)]

    def _as_map(self, x: Any, decision: Decision) -> Any:
        """(batch, channels) -> (batch, 1, 1, channels), once for all readers."""
        if id(x) not in self._maps:
            self._maps[id(x)] = self._reshape(decision, (1, 1, int(x.shape[-1])), "map")(x)
            self._kept.append(x)
        return self._maps[id(x)]

    def _reshape(self, decision: Decision, shape: tuple[int, ...], suffix: str) -> Any:
        return _layers.Reshape(shape, name=self._new_name(f"{decision.name}_{suffix}", decision))

    def _new_name(self, wanted: str, decision: Decision) -> str:
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        self.owners[name] = decision.name
        return name

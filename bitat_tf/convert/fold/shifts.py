"""Constants per channel move to where they cost nothing.

Let every tensor T be stored as T + o_T, with a constant o_T per channel. Then

    BatchNorm, convolution, dense   take up any o at their output (beta, bias), and at their
                                    input (mean; bias -= W^T o) unless zeros are padded to it
    pooling                         o_out = o_in, also where the border is left out of a mean
    sum                             o_out = sum of o_in
    concatenation                   o_out = o_in, one behind the other
    all others                      o = 0: PReLU has its kink and the sign its threshold at 0
    x + c                           costs nothing, and goes, where o_out - o_in = -c

These are linear equations. The additions are asked one after the other, those over the most
values first, whether they can go without contradicting what was settled before; since the
sets of equations that can hold together form a matroid, no other choice saves more. So go, in
one sweep: RPReLU's shift-in into the BatchNorm before; its shift-out into the next sign's
threshold and the next BatchNorm, through pooling and concatenation, at the end into the
dense layer's bias; the first threshold into the stem; and where no nonlinearity stands on the
shortcut, every threshold. Where one does, it pins o = 0 once per layer, and one addition must
stay: the same tensor is read with a kink at 0 and with a threshold elsewhere.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bitat_tf.convert.fold.linear import LinearSystem
from bitat_tf.convert.fold.network import (
    ADD,
    AVERAGE_POOL,
    BATCHNORM,
    BINARY,
    CONCAT,
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    FLATTEN,
    PASS,
    POOL,
    SHIFT,
    Network,
    Node,
)
from bitat_tf.graph import TensorId

_SAME = (AVERAGE_POOL, POOL, PASS, FLATTEN)


def move_shifts(network: Network) -> list[str]:
    """Move all constants that can move; returns the names of the additions that went."""
    system = _Offsets(network)
    additions = network.of_kind(SHIFT)
    additions.sort(key=lambda node: -network.elements(node.output))
    gone = [node for node in additions if system.removes(node)]
    offset = system.solution()
    for node in network.nodes:
        _absorb(node, offset)
    for node in gone:  # only now: until here, tensors are known by their own names
        network.bypass(node)
    return [node.name for node in gone]


def _absorb(node: Node, offset: dict[TensorId, np.ndarray]) -> None:
    """Change a node's numbers so that it reads and writes tensors with their offsets."""
    numbers, before, after = node.numbers, offset.get(node.inputs[0]), offset.get(node.outputs[0])
    if before is None or after is None:
        return
    if node.kind == SHIFT:
        numbers["constant"] = numbers["constant"] + after - before
    elif node.kind == BATCHNORM:
        numbers["mean"] = numbers["mean"] + _tiled(before, len(numbers["mean"]))
        numbers["beta"] = numbers["beta"] + after
    elif node.kind == BINARY:  # it reads signs, whose offset is 0
        numbers["bias"] = numbers["bias"] + after
    elif node.kind in (CONVOLUTION, DENSE):
        kernel = numbers["kernel"]
        summed = kernel.sum(axis=tuple(range(kernel.ndim - 2)))
        numbers["bias"] = numbers["bias"] + after - _tiled(before, len(summed)) @ summed
    elif node.kind == DEPTHWISE:
        summed = numbers["kernel"].sum(axis=(0, 1))
        numbers["bias"] = numbers["bias"] + after - (before[:, None] * summed).reshape(-1)


def _tiled(values: np.ndarray, size: int) -> np.ndarray:
    """Behind a Flatten the same channels come again for every position."""
    return np.tile(values, size // len(values))


@dataclass(frozen=True)
class _Equation:
    """sum of factor * o_T[start : start + length] = side, over the terms (T, start, factor)."""

    terms: tuple[tuple[TensorId, int, float], ...]
    length: int
    side: np.ndarray


# A piece of a tensor's channels: the tensor, and the first channel of the piece.
_Piece = tuple[TensorId, int]


class _Offsets:
    """The offsets of a network's tensors, as far as they are settled.

    Concatenations make one tensor's channels belong to several, so the unknowns are pieces of
    tensors, cut wherever a relation begins or ends.
    """

    def __init__(self, network: Network) -> None:
        self._channels = _channel_counts(network)
        fixed = [equation for node in network.nodes for equation in self._relations(node)]
        fixed += [self._zero(tensor) for tensor in (*network.inputs, *network.outputs)]
        self._removals = {
            node.name: self._equal(node.output, [node.inputs[0]], -node.numbers["constant"])
            for node in network.of_kind(SHIFT)
            if self._alike(node)
        }
        self._cuts = self._cut([*fixed, *self._removals.values()])
        # A bias on a binary convolution keeps a ReLU from fusing with it, so it comes last.
        self._last = frozenset(
            (node.output, start)
            for node in network.of_kind(BINARY)
            for start in self._cuts[node.output]
        )
        self._system: LinearSystem[_Piece] = LinearSystem()
        for equation in fixed:  # all hold with all offsets 0, so none is refused
            self._add(self._system, equation)

    def removes(self, addition: Node) -> bool:
        """Let an addition go, if it can."""
        if addition.name not in self._removals:
            return False
        trial = self._system.copy()
        possible = self._add(trial, self._removals[addition.name])
        if possible:
            self._system = trial
        return possible

    def solution(self) -> dict[TensorId, np.ndarray]:
        """Tensor -> offset, (channels,)."""
        found = self._system.solution()
        return {
            tensor: np.concatenate(
                [found.get((tensor, a), np.zeros(b - a)) for a, b in pairwise(sorted(cuts))]
            )
            for tensor, cuts in self._cuts.items()
        }

    def _relations(self, node: Node) -> list[_Equation]:
        """What holds between the offsets of what a node reads and what it makes."""
        inputs, kind = node.inputs, node.kind
        if kind in (*_SAME, ADD) and self._alike(node):
            return [self._equal(node.output, inputs)]
        joined = sum(self._channels[tensor] for tensor in inputs)
        if kind == CONCAT and self._channels[node.output] == joined:
            return self._joined(node)
        if kind in (BATCHNORM, DENSE) or (kind == SHIFT and self._alike(node)):
            return []
        if kind in (CONVOLUTION, DEPTHWISE) and pads_nothing(node):
            return []
        if kind in (CONVOLUTION, DEPTHWISE, BINARY):
            return [self._zero(inputs[0])]
        return [self._zero(tensor) for tensor in (*inputs, *node.outputs)]

    def _alike(self, node: Node) -> bool:
        counts = {self._channels[tensor] for tensor in (*node.inputs, node.output)}
        return len(counts | {len(number) for number in node.numbers.values()}) == 1

    def _zero(self, tensor: TensorId) -> _Equation:
        length = self._channels[tensor]
        return _Equation(((tensor, 0, 1.0),), length, np.zeros(length))

    def _equal(
        self, output: TensorId, inputs: list[TensorId], side: np.ndarray | None = None
    ) -> _Equation:
        """The output's offset is the sum of the inputs' plus a side."""
        length = self._channels[output]
        terms = ((output, 0, 1.0), *((tensor, 0, -1.0) for tensor in inputs))
        return _Equation(terms, length, np.zeros(length) if side is None else side)

    def _joined(self, node: Node) -> list[_Equation]:
        equations, start = [], 0
        for tensor in node.inputs:
            length = self._channels[tensor]
            terms = ((node.output, start, 1.0), (tensor, 0, -1.0))
            equations.append(_Equation(terms, length, np.zeros(length)))
            start += length
        return equations

    def _cut(self, equations: list[_Equation]) -> dict[TensorId, set[int]]:
        """The coarsest cuts that are the same on all sides of every equation."""
        cuts = {tensor: {0, count} for tensor, count in self._channels.items()}
        changed = True
        while changed:
            changed = False
            for equation in equations:
                inner = range(equation.length + 1)
                common = {
                    cut - start
                    for tensor, start, _ in equation.terms
                    for cut in cuts[tensor]
                    if cut - start in inner
                }
                for tensor, start, _ in equation.terms:
                    new = {cut + start for cut in common} - cuts[tensor]
                    cuts[tensor] |= new
                    changed |= bool(new)
        return cuts

    def _add(self, system: LinearSystem[_Piece], equation: _Equation) -> bool:
        """Take an equation piece by piece; whether all of them hold."""
        tensor, start, _ = equation.terms[0]
        edges = sorted(c - start for c in self._cuts[tensor] if 0 <= c - start <= equation.length)
        for a, b in pairwise(edges):
            factors: dict[_Piece, float] = {}
            for other, first, factor in equation.terms:
                piece = (other, first + a)
                factors[piece] = factors.get(piece, 0.0) + factor
            if not system.add(factors, equation.side[a:b], self._last):
                return False
        return True


def pads_nothing(node: Node) -> bool:
    """Whether a convolution never reads padding, whose zeros have no offset."""
    layer = node.layer
    return layer.padding == "valid" or tuple(layer.kernel_size) == (1, 1)


def _channel_counts(network: Network) -> dict[TensorId, int]:
    """Length of every tensor's offset.

    That is its number of channels, but behind a Flatten, where channels come again for every
    position; of a tensor that has none, which is then never moved, 1.
    """
    counts = {tensor: shape[-1] or 1 if shape else 1 for tensor, shape in network.shapes.items()}
    for node in network.nodes:
        before = {counts[tensor] for tensor in node.inputs}
        if node.kind in (*_SAME, ADD) and len(before) == 1:
            counts[node.output] = before.pop()
    return counts

"""Closed-form calibration, bottom to top: steps 1 to 7 of docs/method.md.

The student runs call by call over cached batches, its layers below already binary; the float
teacher runs beside it on the same images, just far enough to give each layer its target. Each
layer is computed once. At every sign the threshold is set, at every binary convolution the
kernel, at the BatchNorm behind it the scale and mean, and only then does the layer run. Here is
the walk; `fitting` has what becomes of one convolution, `thresholds` of one sign.

Of several workers (`train.workers`) each runs its share of the batches. What a layer is solved
from, C and D and the samples of the thresholds, is that of all batches on all of them; V follows
from it. V itself could not be averaged: its columns have no sign, and those of one eigenvalue no
order.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.binarize import float_twin
from bitat_tf.config import CalibrationConfig
from bitat_tf.graph import Call, Graph, Sweep, TensorId, binary_units
from bitat_tf.layers import BitatConv2D
from bitat_tf.results import CalibrationResult, LayerCalibration
from bitat_tf.train import workers
from bitat_tf.train.batches import take_labelled
from bitat_tf.train.branches import Branch, find_branch
from bitat_tf.train.fitting import fit_layer, solve, sum_moments
from bitat_tf.train.heads import head_of
from bitat_tf.train.task_weights import task_weights
from bitat_tf.train.thresholds import thresholds
from bitat_tf.train.transfer import copy_float_weights

Progress = Callable[[str, int, int], None]


def calibrate(
    student: Any,
    teacher: Any,
    dataset: Any,
    *,
    config: CalibrationConfig | None = None,
    units: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> CalibrationResult:
    """Binarize a student in closed form, in place, without labels or gradients.

    Steps 1 to 7 of docs/method.md: this project's reconstruction of BiTAT (arXiv 2207.01394).

    Args:
        student: functional model with `RSign` and `BitatConv2D` layers, each convolution
            followed by a BatchNormalization.
        teacher: its trained float twin (same layer names), or the float model that `binarize`
            made the student of.
        dataset: batches of images (batch, height, width, channels), or of (images, labels),
            as a `tf.data.Dataset`, a list or another iterable; or arrays, `x` or `(x, y)`, of
            which batches of 128 are made. `config.batches` are taken. For a student with several
            inputs, batches of (inputs, labels) or (inputs,) with a tuple, list or dictionary of
            them.
        config: see `CalibrationConfig`.
        units: names of the units (`graph.binary_units`) to calibrate; the others stay as they
            are, trained weights included. None calibrates all, starting from the teacher's
            weights.
        progress: called with (layer name, layers done, layers in all).

    Returns:
        A record of every layer's unexplained variance.

    Raises:
        ValueError: when the student has nothing to binarize, a unit is unknown, the data set is
            empty or not finite, a model computes in half precision or has weights that are not
            finite, or a layer has no target.
    """
    config = config or CalibrationConfig()
    started = time.perf_counter()
    known = binary_units(student)
    if not known:
        raise ValueError(
            f"`student` {student.name!r} has no binary layer: nothing to calibrate. Build it "
            "with binary=True."
        )
    for model in (student, teacher):
        _check_precision(model)
    wanted = {unit.name for unit in known} if units is None else set(units)
    unknown = wanted - {unit.name for unit in known}
    if unknown:
        raise ValueError(f"`units` names no unit of the student. Received: {sorted(unknown)}")
    in_units = {id(c) for unit in known for c in unit.convolutions}
    for layer in student.layers:
        if isinstance(layer, BitatConv2D) and id(layer) not in in_units:
            raise ValueError(
                f"Layer {layer.name!r} must read an RSign directly, which binarizes its input."
            )
    batches, labels = _take(dataset, config.batches)
    teacher = float_twin(student, teacher)
    if units is None:
        copy_float_weights(student, teacher)
    selected = [unit for unit in known if unit.name in wanted]
    for unit in selected:
        unit.activate(True)
    run = _Calibration(student, teacher, batches, labels, config, selected, progress)
    layers = run.all_layers()
    if config.fit_head and all(unit.active for unit in known):
        run.fit_heads()
    workers.take_chiefs(student.variables)
    (images,) = workers.total(sum(len(tf.nest.flatten(batch)[0]) for batch in batches))
    return CalibrationResult(tuple(layers), int(images), time.perf_counter() - started)


def _take(dataset: Any, count: int) -> tuple[list[Any], list[Any] | None]:
    """This worker's of the first `count` image batches, float32 tensors, and labels if any."""
    batches = []
    found, labels = take_labelled(dataset, count)
    team = workers.current()
    if len(found) < team.count:
        raise ValueError(
            f"Each of {team.count} workers needs a calibration batch. Received: {len(found)}"
        )
    sizes = {len(tf.nest.flatten(element)[0]) for element in found}
    if team.count > 1 and len(sizes) > 1:
        raise ValueError(
            f"Several workers need calibration batches of one size. Received: {sorted(sizes)}"
        )
    labels = labels and list(team.mine(labels))
    for element in team.mine(found):
        batch = tf.nest.map_structure(tf.convert_to_tensor, element)
        for images in tf.nest.flatten(batch):
            _check_images(images)
        batches.append(batch)
    return batches, labels


def _check_images(images: Any) -> None:
    if images.dtype != tf.float32:
        raise ValueError(
            f"Calibration images must be float32, as the model is trained on. "
            f"Received: {images.dtype.name}"
        )
    if not bool(tf.reduce_all(tf.math.is_finite(images))):
        raise ValueError("Calibration images hold NaN or infinity.")


def _check_precision(model: Any) -> None:
    for layer in model.layers:
        if layer.compute_dtype in ("float16", "bfloat16"):
            raise ValueError(
                f"Calibration needs models that compute in float32: half precision loses the "
                f"correlations. Received: layer {layer.name!r} of {model.name!r} with "
                f"{layer.compute_dtype}. Build both without a mixed-precision policy."
            )


class _Calibration:
    """One calibration run: student and teacher sweeps side by side."""

    def __init__(
        self,
        student: Any,
        teacher: Any,
        batches: Sequence[Any],
        labels: Sequence[Any] | None,
        config: CalibrationConfig,
        units: Sequence[Any],
        progress: Progress | None,
    ) -> None:
        self.config = config
        self.graph = Graph(student)
        self.teacher_graph = Graph(teacher)
        self.signs = {id(unit.sign) for unit in units}
        self.convolutions = {id(c) for unit in units for c in unit.convolutions}
        self.progress = progress
        self.student = Sweep(self.graph, batches, before=self._before)
        self.teacher = Sweep(self.teacher_graph, batches)
        self.joining: set[int] = set()
        self.records: list[LayerCalibration] = []
        targets = self._hold_targets()
        self.heads = [call for key in self.graph.outputs if (call := head_of(self.graph, key))]
        for call in self.heads:
            self.teacher.hold(self._teacher_tensor(call.layer.name))
        self.omega: dict[str, list[Any]] = {}
        if config.task_weights:
            self.omega = task_weights(teacher, targets, batches, labels)

    def _hold_targets(self) -> list[str]:
        """Reserve the teacher tensors that will be asked for, once for each asking."""
        names: list[str] = []
        for call in self._convolution_calls():
            branch = find_branch(self.graph, call)
            for name in {branch.target, branch.batchnorm.name}:
                self.teacher.hold(self._teacher_tensor(name))
                names.append(name)
        return list(dict.fromkeys(names))

    def _teacher_tensor(self, layer_name: str) -> TensorId:
        tensor = self.teacher_graph.output_of(layer_name)
        if tensor is None:
            raise ValueError(
                f"The output of the student's layer {layer_name!r} is to match the teacher's, but "
                "the teacher has no such layer. Build both with the same builder."
            )
        return tensor

    def _convolution_calls(self) -> list[Call]:
        return [c for c in self.graph.calls if id(c.layer) in self.convolutions]

    def all_layers(self) -> list[LayerCalibration]:
        """Calibrate the selected layers, bottom to top."""
        for call in self._convolution_calls():
            self.student.run(call)
        return self.records

    def _before(self, call: Call) -> None:
        if id(call.layer) in self.signs:
            values = self.student.compute(call.inputs[0])
            count = call.layer.thresholds
            call.layer.shift.assign(-np.ravel(thresholds(values, self.config.threshold, count)))
        elif id(call.layer) in self.convolutions:
            self._fit_convolution(call)

    def _fit_convolution(self, call: Call) -> None:
        layer: BitatConv2D = call.layer
        branch = find_branch(self.graph, call)
        targets, omega = self._targets(branch)
        inputs = self.student.compute(call.inputs[0])
        point = sum_moments(
            (layer.patches(x).numpy(), np.reshape(t, (-1, layer.filters)), w)
            for x, t, w in zip(inputs, targets, omega, strict=True)
        )
        self.records.append(fit_layer(layer, branch.batchnorm, point, self.config))
        if self.progress is not None:
            self.progress(layer.name, len(self.records), len(self.convolutions))

    def _targets(self, branch: Branch) -> tuple[list[Any], list[Any]]:
        """What the branch should put out, and how much each position counts (None: alike).

        That is the teacher's value less the student's shortcut.
        """
        name, others = branch.target, branch.others
        # While the other side of this addition is being fitted it waits for this one.
        waits = id(branch.join) in self.joining
        if branch.join is not None and (waits or self.config.target == "branch"):
            name, others = branch.batchnorm.name, ()
        self.joining.add(id(branch.join))
        shortcuts = [self.student.compute(key) for key in others]
        self.joining.discard(id(branch.join))
        targets = [t.numpy() for t in self.teacher.compute(self._teacher_tensor(name))]
        for held in {branch.target, branch.batchnorm.name}:
            self.teacher.release(self._teacher_tensor(held))
        for shortcut in shortcuts:
            targets = [t - s.numpy() for t, s in zip(targets, shortcut, strict=True)]
        return targets, self.omega.get(name) or [None] * len(targets)

    def fit_heads(self) -> None:
        """Refit the final Dense layers to the teacher's logits on the student's features."""
        for call in self.heads:
            features = self.student.compute(call.inputs[0])
            logits = self.teacher.compute(self._teacher_tensor(call.layer.name))
            point = sum_moments(
                (f.numpy(), t.numpy()) for f, t in zip(features, logits, strict=True)
            )
            kernel, _, _, _ = solve(point, self.config.ridge, max_block=len(point.x))
            call.layer.kernel.assign(kernel)
            call.layer.bias.assign(point.mean_t - kernel.T @ point.mean_x)


__all__ = ["calibrate"]

"""Step 8 of docs/method.md: correlations followed, and transforms refreshed, during training.

Every so many steps, and only then, the student runs on one batch of images as far as its binary
convolutions' inputs. Each active one takes the batch's correlation into the moving average that
its transform holds, and V and s anew from that. Of several workers each runs its rows of the batch,
and the correlation is that of all of them. What reads them (the quantization loss, the
release to 1 bit) sees the new values in the next step.

All positions count alike here, also where the calibration weighed them by the task
(`calibration.task_weights`).
"""

from collections.abc import Sequence
from typing import Any

from bitat_tf import linalg
from bitat_tf._keras import tf
from bitat_tf.graph import Call, Graph, Sweep
from bitat_tf.layers import BitatConv2D
from bitat_tf.records import check
from bitat_tf.train import workers
from bitat_tf.train.batches import take_images


class Tracking:
    """Refreshes a student's transforms before every step that is a multiple of `refresh_steps`.

    A function of the step and of the student as it then is: refresh number i takes batch
    i modulo `batches`.

    Args:
        student: functional model. Its transforms hold what calibration left there, from which
            the average goes on; that of a layer that was never calibrated, the identity, fades.
        dataset: batches of images, or of (images, labels).
        refresh_steps: steps between two refreshes.
        batches: how many of the data set's batches to take.
        momentum: m of the moving average, in [0, 1). It averages over (1 + m) / (1 - m)
            refreshes, by default three: one batch has but few positions per direction in the
            deepest layers, and many refreshes ago the student was another.

    Raises:
        ValueError: when an argument is out of range, the data set is empty, or the student has
            no binary convolution.
    """

    def __init__(
        self,
        student: Any,
        dataset: Any,
        refresh_steps: int,
        *,
        batches: int = 8,
        momentum: float = 0.5,
    ) -> None:
        check(refresh_steps >= 1, "refresh_steps", "at least 1", refresh_steps)
        check(batches >= 1, "batches", "at least 1", batches)
        check(0 <= momentum < 1, "momentum", "at least 0 and below 1", momentum)
        self.refresh_steps = refresh_steps
        self.momentum = momentum
        self._graph = Graph(student)
        self._calls = [c for c in self._graph.calls if isinstance(c.layer, BitatConv2D)]
        check(len(self._calls) > 0, "student", "a model with binary convolutions", student.name)
        self._batches: Sequence[Any] = take_images(dataset, batches)

    def before_step(self, step: int) -> None:
        """Refresh all active layers, if the step is one to do so at.

        Args:
            step: of the optimizer, from 0.
        """
        refresh, offset = divmod(step, self.refresh_steps)
        if offset:
            return
        batch = self._batches[refresh % len(self._batches)]
        rows = workers.current().rows(len(tf.nest.flatten(batch)[0]))
        sweep = Sweep(self._graph, [tf.nest.map_structure(lambda values: values[rows], batch)])
        for call in self._calls:
            if bool(call.layer.active.numpy()):
                self._refresh(call, sweep)
                workers.take_chiefs(call.layer.transform.variables)

    def _refresh(self, call: Call, sweep: Sweep) -> None:
        layer: BitatConv2D = call.layer
        (inputs,) = sweep.compute(call.inputs[0])
        tracked = layer.transform.correlation.numpy()
        patches = layer.patches(inputs).numpy()
        measured = linalg.batch_correlation(patches, len(tracked), workers.total_moments)
        correlation = linalg.moving_average(tracked, measured, self.momentum)
        layer.transform.assign(correlation, *linalg.basis(correlation))

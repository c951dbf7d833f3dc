"""The test accuracy of what a run has by now."""

from typing import Any

from bitat_tf import data, deployment, run_directory, runtime, train
from bitat_tf._keras import keras
from bitat_tf.results import ModelScore
from bitat_tf.train.evaluate import EVALUATION_BATCH, inference

FLOAT, INT8, CONVERTED = deployment.TEACHER, "int8", "converted"
ONE_SHOT, TRAINED = "one-shot calibrated", deployment.STUDENT


def scores(run: Any) -> tuple[ModelScore, ...]:
    """Accuracy on the test split of every model of a run, `experiment.Run`."""
    found = []
    for label, name in ((FLOAT, "teacher"), (ONE_SHOT, "calibrated"), (TRAINED, "student")):
        if run_directory.model_path(run.folder, name).exists():
            found.append(ModelScore(label, run.accuracy(run.load_model(name)), _size(run, name)))
        if name == "teacher":
            found += _of_flatbuffer(run, INT8, run_directory.INT8)
    return (*found, *_of_flatbuffer(run, CONVERTED, "model"))


def accuracy(images: data.ImageData, model: Any, *, validation: bool = False) -> float:
    """Top-1 accuracy of a Keras model or a `runtime.Runner` on a data set.

    Args:
        images: the data set.
        model: to be measured.
        validation: measure on the validation split, and not on the test split.

    Raises:
        ValueError: when the model was made for other images or classes.
    """
    check_fits(images, model)
    part = images.validation if validation else images.test
    if isinstance(model, runtime.Runner):
        return train.accuracy(lambda batch: model.predict(batch.numpy()), part(EVALUATION_BATCH))
    return train.accuracy(inference(model), part(EVALUATION_BATCH))


def check_fits(images: data.ImageData, model: Any, name: str = "The model") -> None:
    """Refuse a model, which the error calls by `name`, that was made for other images or classes.

    Raises:
        ValueError: when it was.
    """
    takes = model.input_shape[1:] if isinstance(model, keras.Model) else model.input_shape
    classes = model.output_shape[-1]
    if (takes, classes) != (images.image_shape, images.classes):
        raise ValueError(
            f"{name} maps images {takes} to {classes} classes; the data set {images.name!r} has "
            f"images {images.image_shape} of {images.classes} classes."
        )


def _of_flatbuffer(run: Any, label: str, name: str) -> list[ModelScore]:
    """Its score, where it is there."""
    if not run_directory.flatbuffer_path(run.folder, name).exists():
        return []
    content = run.flatbuffer(name)
    return [ModelScore(label, run.accuracy(runtime.Runner(content)), len(content))]


def _size(run: Any, name: str) -> int | None:
    """Size of a model's flatbuffer where it has one under its own name (the teacher)."""
    path = run_directory.flatbuffer_path(run.folder, name)
    return path.stat().st_size if path.exists() else None

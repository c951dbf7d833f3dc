"""What an `experiment.Run` does once its models are trained: flatbuffers and host latency.

The float teacher becomes two rivals of the binary model: its float32 flatbuffer, and one in
int8, quantized after training on the images that calibration sees. Reports show all three.
"""

from collections.abc import Sequence
from typing import Any

from bitat_tf import bench, convert, run_directory
from bitat_tf._version import __version__
from bitat_tf.counts import count
from bitat_tf.files import write_bytes
from bitat_tf.metadata import MeasuredShare, Metadata, Preprocessing
from bitat_tf.records import to_mapping
from bitat_tf.results import (
    AuditReport,
    HostProfile,
    LatencyRecord,
    ModelScore,
    ParityReport,
)

BINARY, FLOAT, INT8 = "binary", "float", "int8"

# Name in the records -> name of the file, in the order of the tables.
_FLATBUFFERS = {BINARY: "model", FLOAT: "teacher", INT8: run_directory.INT8}


# Names of the Keras models among a run's scores.
TEACHER, STUDENT = "float", "trained"

# Sections of a recipe that say how it is carried out and measured, not what comes out.
_OF_THE_RUN = ("checkpoint", "log", "convert", "benchmark")


def convert_run(
    run: Any, *, fold: bool, ends: convert.Ends, io: convert.Ends, parity_layers: bool = False
) -> tuple[convert.Conversion, ParityReport]:
    """Convert a run's student (and its teacher, for comparison), audit, check parity.

    What is known of them by then goes into the flatbuffers (`metadata`).

    Args:
        run: an `experiment.Run`.
        fold, ends, io: as in `convert.export`; the ranges of int8 ends come from the images
            that calibration sees.
        parity_layers: compare layer by layer as well.

    Returns:
        The conversion, without metadata, and how its flatbuffer agrees with Keras.

    Raises:
        convert.ConversionError: when the flatbuffer is not what was trained.
    """
    student = run.load_model("student")
    for name in _FLATBUFFERS.values():  # never beside another model's figures
        run_directory.flatbuffer_path(run.folder, name).unlink(missing_ok=True)
    scores = run.result.scores  # of Keras models, which stay what they are
    run.keep(audit=None, parity=None, latency=(), profiles=(), android=(), scores=())
    made = convert.convert_model(
        student,
        fold=fold,
        ends=ends,
        io=io,
        calibration_images=run.calibration_array() if ends == "int8" else None,
    )
    config = run.recipe.convert
    parity = convert.check_conversion(
        made,
        student,
        run.test_images(config.parity_images),
        min_agreement=config.min_agreement,
        layers=parity_layers,
    )
    run.keep(audit=made.audit, parity=parity)
    convert.require_parity(parity)
    known = metadata(run, STUDENT, made.audit, parity, scores)
    content = convert.embed(made.flatbuffer, known)
    run.keep(audit=convert.audit(content, counts=count(student)))  # of the file as it is written
    write_bytes(run_directory.flatbuffer_path(run.folder, "model"), content)
    make_twins(run, scores)
    return made, parity


def is_converted(run: Any) -> bool:
    """Whether a run's flatbuffer and its rivals are all there, and compared with Keras."""
    paths = [run_directory.flatbuffer_path(run.folder, name) for name in _FLATBUFFERS.values()]
    return run.result.parity is not None and all(path.exists() for path in paths)


def make_twins(run: Any, scores: Sequence[ModelScore] | None = None) -> None:
    """Write the teacher's flatbuffers, float32 and int8, where they are not there yet.

    A run without a teacher gets none.

    Args:
        run: an `experiment.Run`.
        scores: of its Keras models; None takes those that the run has.

    Raises:
        ValueError: when the data that int8 is calibrated on cannot be had.
        convert.ConversionError: when the teacher cannot be converted.
    """
    rivals = [run_directory.flatbuffer_path(run.folder, _FLATBUFFERS[n]) for n in (FLOAT, INT8)]
    missing = [path for path in rivals if not path.exists()]
    scores = run.result.scores if scores is None else scores
    if not missing or not run_directory.model_path(run.folder, "teacher").exists():
        return
    teacher = run.load_model("teacher")
    for path in missing:
        if path.stem == run_directory.INT8:
            content = convert.export_int8(teacher, run.calibration_array())
        else:
            content = convert.export_float(teacher)
        known = metadata(run, TEACHER, convert.audit(content), None, scores)
        write_bytes(path, convert.embed(content, known))


def metadata(
    run: Any,
    keras_model: str,
    audit: AuditReport,
    parity: ParityReport | None,
    scores: Sequence[ModelScore],
) -> Metadata:
    """What a run knows of a flatbuffer at the time it is written.

    Args:
        run: an `experiment.Run`.
        keras_model: name of the model it was made from, in the scores.
        audit, parity: of the flatbuffer; None where parity was not checked.
        scores: of the run's Keras models, as far as they are measured.
    """
    images, config = run.images, run.recipe.data
    accuracy = next((score.test_accuracy for score in scores if score.model == keras_model), None)
    recipe = {k: v for k, v in to_mapping(run.recipe).items() if k not in _OF_THE_RUN}
    # Where the data lay on this machine is nobody's business, and no part of what was trained.
    recipe["data"] |= {"data_dir": None, "dataset": images.name}
    return Metadata(
        bitat_version=__version__,
        labels=images.class_names,
        preprocessing=Preprocessing(
            images.mean,
            images.std,
            (0.0, float(images.pixel_max)),
            config.image_size,
            config.center_share if config.image_size else 1.0,
        ),
        dataset=images.name,
        recipe=recipe,
        keras_accuracy=None if accuracy is None else MeasuredShare(accuracy, images.test_images),
        agreement=None if parity is None else MeasuredShare(parity.agreement, parity.images),
        audit=convert.summarize(audit),
    )


def flatbuffers(run: Any) -> dict[str, bytes]:
    """The run's `"binary"` flatbuffer, and its rivals `"float"` and `"int8"` where there are any.

    Raises:
        ValueError: when the run was not converted, or a file is damaged.
    """
    found = {BINARY: run.flatbuffer(_FLATBUFFERS[BINARY])}
    for name in (FLOAT, INT8):
        if run_directory.flatbuffer_path(run.folder, _FLATBUFFERS[name]).exists():
            found[name] = run.flatbuffer(_FLATBUFFERS[name])
    return found


def benchmark(run: Any) -> tuple[LatencyRecord, ...]:
    """Host latency of the run's flatbuffers, interleaved; rivals that are missing are made.

    Afterwards the run's scores name all of them: without accuracy a latency says little.
    """
    make_twins(run)
    config = run.recipe.benchmark
    records = bench.host.compare(
        flatbuffers(run),
        warmup=config.warmup,
        repeats=config.repeats,
        threads=config.threads,
    )
    run.keep(latency=records)
    if not _scored(run):
        run.score()
    return records


def profile(run: Any) -> tuple[HostProfile, ...]:
    """Host time of every operator of the run's flatbuffers, on one thread."""
    make_twins(run)
    found = tuple(
        bench.operators.profile(content, name=name) for name, content in flatbuffers(run).items()
    )
    run.keep(profiles=found)
    return found


def _scored(run: Any) -> bool:
    """Whether the run's scores hold a size for every flatbuffer that is there."""
    sizes = {score.size_bytes for score in run.result.scores if score.test_accuracy is not None}
    return all(len(content) in sizes for content in flatbuffers(run).values())

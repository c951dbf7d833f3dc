"""What an `experiment.Run` does once its models are trained: flatbuffers and host latency.

The float teacher becomes two rivals of the binary model: its float32 flatbuffer, and one in
int8, quantized after training on the images that calibration sees. Reports show all three.
"""

from typing import Any

from bitat_tf import bench, convert, run_directory
from bitat_tf.files import write_bytes
from bitat_tf.results import HostProfile, LatencyRecord, ParityReport

BINARY, FLOAT, INT8 = "binary", "float", "int8"

# Name in the records -> name of the file, in the order of the tables.
_FLATBUFFERS = {BINARY: "model", FLOAT: "teacher", INT8: run_directory.INT8}


def convert_run(
    run: Any, *, fold: bool, ends: convert.Ends, io: convert.Ends
) -> tuple[convert.Conversion, ParityReport]:
    """Convert a run's student (and its teacher, for comparison), audit, check parity.

    With int8 ends the flatbuffer is compared with the Keras model whose ends are rounded to
    int8, and not with the student: rounding in front of a sign is no error of the conversion,
    and what it costs in accuracy `Run.score` shows.

    Args:
        run: an `experiment.Run`.
        fold, ends, io: as in `convert.export`; the ranges of int8 ends come from the images
            that calibration sees.

    Returns:
        The conversion, and how its flatbuffer agrees with Keras.

    Raises:
        convert.ConversionError: when the flatbuffer is not what was trained.
    """
    student = run.load_model("student")
    for name in _FLATBUFFERS.values():  # never beside another model's figures
        run_directory.flatbuffer_path(run.folder, name).unlink(missing_ok=True)
    run.keep(audit=None, parity=None, latency=(), profiles=(), android=(), scores=())
    int8 = ends == "int8"
    made = convert.convert_model(
        student,
        fold=fold,
        ends=ends,
        io=io,
        calibration_images=run.calibration_array() if int8 else None,
    )
    config = run.recipe.convert
    parity = convert.check_parity(
        made.model if int8 else student,
        made.flatbuffer,
        run.test_images(config.parity_images),
        min_agreement=min(config.min_agreement, convert.MIN_AGREEMENT_INT8 if int8 else 1.0),
    )
    run.keep(audit=made.audit, parity=parity)
    if not parity.passed:
        raise convert.ConversionError(
            f"The flatbuffer agrees with Keras on {parity.agreement:.2%} of "
            f"{parity.images} test images; at least {parity.min_agreement:.2%} is asked for. "
            "No flatbuffer was written."
        )
    write_bytes(run_directory.flatbuffer_path(run.folder, "model"), made.flatbuffer)
    make_twins(run)
    return made, parity


def make_twins(run: Any) -> None:
    """Write the teacher's flatbuffers, float32 and int8, where they are not there yet.

    A run without a teacher gets none.

    Raises:
        ValueError: when the data that int8 is calibrated on cannot be had.
        convert.ConversionError: when the teacher cannot be converted.
    """
    rivals = [run_directory.flatbuffer_path(run.folder, _FLATBUFFERS[n]) for n in (FLOAT, INT8)]
    missing = [path for path in rivals if not path.exists()]
    if not missing or not run_directory.model_path(run.folder, "teacher").exists():
        return
    teacher = run.load_model("teacher")
    for path in missing:
        if path.stem == run_directory.INT8:
            write_bytes(path, convert.export_int8(teacher, run.calibration_array()))
        else:
            write_bytes(path, convert.export_float(teacher))


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

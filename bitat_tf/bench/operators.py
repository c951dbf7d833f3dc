"""The time of each operator of a flatbuffer on this host, which says nothing about phones.

Neither interpreter has a profiler that Python can reach. So each operator is cut out (`cut`),
and timed once and eleven times in turn, and between the operators the whole flatbuffer, in one
process bound to one core. The sum should come near the whole: within 15 % on a quiet machine.
"""

from statistics import median

from bitat_tf.android_results import OperatorTime
from bitat_tf.bench.host import check_count, device_name, interpreter, watch
from bitat_tf.results import HostProfile
from bitat_tf.runtime import Runner, Stopwatch, operator_name, read, spare_cores
from bitat_tf.runtime.cut import cut_out

_COPIES = 11
_WARMUP = 3
_TURNS = 5  # into which the repeats of an operator are cut


def profile(flatbuffer: bytes, *, name: str = "model", repeats: int = 30) -> HostProfile:
    """Time every operator of a flatbuffer on one thread.

    Args:
        flatbuffer: content of a `.tflite` file.
        name: of the model in the record.
        repeats: counted runs of each operator's two flatbuffers, and of the whole in all.

    Returns:
        Milliseconds of every operator, and of the whole inference timed between them.

    Raises:
        ValueError: on a number out of range, where `runtime.Runner` refuses the flatbuffer, and
            where an operator cannot run alone.
    """
    check_count("repeats", repeats, 1)
    runtime = Runner(flatbuffer).runtime
    model = read(flatbuffer)
    graph = model.subgraphs[0]
    cores = spare_cores(1)
    each = max(1, -(-repeats // len(graph.operators)))
    whole_ms: list[float] = []
    times: list[float] = []
    with (
        watch(flatbuffer, 1, cores) as whole,
        Stopwatch(interpreter(flatbuffer), cores=cores) as alone,
    ):
        whole.run(_WARMUP)
        for index in range(len(graph.operators)):
            alone.load(*(cut_out(model, index, copies) for copies in (1, _COPIES)))
            times.append(_alone(alone, repeats))
            whole_ms += whole.run(1 + each)[1:]
    total = sum(times)
    rows = tuple(
        OperatorTime(
            type=operator_name(model, operator),
            name=(graph.tensors[operator.outputs[0]].name or b"").decode(errors="replace"),
            average_ms=time,
            share=time / total if total > 0 else 0.0,
            calls=1,
        )
        for operator, time in zip(graph.operators, times, strict=True)
    )
    return HostProfile(name, device_name(), runtime, 1, median(whole_ms), rows)


def _alone(stopwatch: Stopwatch, repeats: int) -> float:
    """Milliseconds of one copy; 0 where the clock and the noise are coarser than it."""
    one: list[float] = []
    many: list[float] = []
    stopwatch.run(_WARMUP, 0)
    stopwatch.run(_WARMUP, 1)
    turn = -(-repeats // _TURNS)
    while len(one) < repeats:
        one += stopwatch.run(1 + turn, 0)[1:]
        many += stopwatch.run(1 + turn, 1)[1:]
    return max(0.0, (median(many) - median(one)) / (_COPIES - 1))

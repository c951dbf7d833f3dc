"""What the stand-in starts in place of an ARM `lce_benchmark_model`; see `stand_in`.

Arguments: the pushed program, then the options of the tool. The program is an ELF header with a
description behind it, in JSON, that says how this tool is to behave:

    kind    run, print, crash, fail, hang, garbage, stubborn: see the functions
    then    another kind, from the start after number `after` on
    heats   whether it leaves the phone hot

`run` really runs the flatbuffer with LCE's interpreter, and prints what it measured in TFLite's
format. It has no profiler: it shares the time evenly among the flatbuffer's operators.
"""

import importlib.util
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path

MARK = b"STAND-IN:"
# As a newer tool prints them, with percentiles; `print` gives them without looking at the model.
_WARMUP_US = (5200, 4100, 4000, 4050)
_RUN_US = (4010, 4020, 3990, 4100, 4030)


def main():
    program, *arguments = sys.argv[1:]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    behaviour = json.loads(Path(program).read_bytes().partition(MARK)[2])
    root = Path(os.environ["ROOT"])
    starts = root / "starts"
    number = int(starts.read_text()) + 1 if starts.exists() else 1
    starts.write_text(str(number))
    kind = behaviour["kind"]
    if "then" in behaviour and number > behaviour["after"]:
        kind = behaviour["then"]
    status = _KINDS[kind](options)
    if behaviour.get("heats"):
        (root / "skin").write_text("46\n")
    return status


def _run(options):
    native = _module(_package("bitat_tf") / "runtime" / "native.py").shared_object("lce")
    import numpy as np

    content = Path(options["graph"]).read_bytes()
    xnnpack = options["use_xnnpack"] == "true"
    indirect = options["use_indirect_bgemm"] == "true"
    start = time.perf_counter()
    threads = int(options["num_threads"])
    interpreter = native.LiteInterpreter(content, threads, False, indirect, xnnpack)
    init_us = 1e6 * (time.perf_counter() - start)
    shapes_types = zip(interpreter.input_shapes, interpreter.input_types, strict=True)
    inputs = [np.ones(shape, dtype) for shape, dtype in shapes_types]

    def times(runs):
        measured = []
        for _ in range(runs):
            start = time.perf_counter()
            interpreter.predict(inputs)
            measured.append(round(1e6 * (time.perf_counter() - start)))
        return measured

    warmup, regular = times(int(options["warmup_runs"])), times(int(options["num_runs"]))
    _report(options, init_us, warmup, regular, percentiles=False)
    if options["enable_op_profiling"] == "true":
        _profile(_operators(content), statistics.fmean(regular) / 1e3)
    return 0


def _print(options):
    _report(options, 1471, _WARMUP_US, _RUN_US, percentiles=True)
    if options["enable_op_profiling"] == "true":
        _profile([("CONV_2D", "stem"), ("LceBconv2d", "block"), ("LceBconv2d", "block2")], 4.03)
    return 0


def _crash(options):
    _print_start(options)
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def _fail(options):
    _print_start(options)
    print("ERROR: Encountered unresolved custom op: LceQuantize.", file=sys.stderr)
    print("ERROR: Benchmarking failed.", file=sys.stderr)
    return 1


def _hang(options):
    _print_start(options)
    sys.stdout.flush()
    time.sleep(3600)


def _garbage(options):
    print("\x00\x7f count=50 first=oops\ncount=50 avg=nan\nbus error?")
    return 0


def _stubborn(options):
    return _print({**options, "num_threads": "1"})


_KINDS = {
    "run": _run,
    "print": _print,
    "crash": _crash,
    "fail": _fail,
    "hang": _hang,
    "garbage": _garbage,
    "stubborn": _stubborn,
}


def _print_start(options):
    print("INFO: STARTING!")
    print(f"INFO: Num threads: [{options['num_threads']}]")
    print(f"INFO: Graph: [{options['graph']}]")
    for name, option in (("xnnpack", "use_xnnpack"), ("indirect BGEMM", "use_indirect_bgemm")):
        print(f"INFO: Use {name}: [{int(options[option] == 'true')}]")


def _report(options, init_us, warmup, regular, *, percentiles):
    _print_start(options)
    size = Path(options["graph"]).stat().st_size / 1e6
    print(f"INFO: The input model file size (MB): {size:.6g}")
    print(f"INFO: Initialized session in {init_us / 1e3:.6g}ms.")
    for values in (warmup, regular):
        print(
            f"INFO: Running benchmark for at least {len(values)} iterations and at least 0 seconds"
        )
        print(f"INFO: {_count_line(values, percentiles)}\n")
    print(
        f"INFO: Inference timings in us: Init: {init_us:.0f}, First inference: {warmup[0]}, "
        f"Warmup (avg): {statistics.fmean(warmup):.6g}, "
        f"Inference (avg): {statistics.fmean(regular):.6g}"
    )
    print("INFO: Memory footprint delta from the start of the tool (MB): init=4.21 overall=46.0859")
    if options["report_peak_memory_footprint"] == "true":
        print("INFO: Overall peak memory footprint (MB) via periodic monitoring: 48.5")


def _count_line(values, percentiles):
    if min(values) == max(values):
        return f"count={len(values)} curr={values[0]}" + ("(all same)" if len(values) > 1 else "")
    line = (
        f"count={len(values)} first={values[0]} curr={values[-1]} min={min(values)} "
        f"max={max(values)} avg={statistics.fmean(values):.6g} std={statistics.pstdev(values):.0f}"
    )
    if percentiles:
        line += f" p5={min(values)} median={statistics.median_low(values)} p95={max(values)}"
    return line


def _profile(operators, total_ms):
    each = total_ms / len(operators)
    share = 100 / len(operators)
    rows = [
        (kind, f"{each:.3f}", f"{each:.3f}", f"{share:.3f}%", f"{share * (i + 1):.3f}%", name)
        for i, (kind, name) in enumerate(operators)
    ]
    print("Profiling Info for Benchmark Initialization:")
    _node_table(
        [("AllocateTensors", "1.356", "1.356", "100.000%", "100.000%", "AllocateTensors/0")]
    )
    print("\n\nOperator-wise Profiling Info for Regular Benchmark Runs:")
    _node_table(rows)


def _node_table(rows):
    header = ("[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]", "[times called]")
    for title, shown in (("Run Order", rows), ("Top by Computation Time", rows[:10])):
        print(f"{'=' * 30} {title} {'=' * 30}")
        print("\t" + "\t".join(cell.rjust(9) for cell in header) + "\t[Name]")
        for kind, first, average, share, cumulated, name in shown:
            cells = (kind, first, average, share, cumulated, "0.000", "1")
            print("\t" + "\t".join(cell.rjust(9) for cell in cells) + f"\t{name}")
        print()
    print(f"Number of nodes executed: {len(rows)}")
    print(f"{'=' * 30} Summary by node type {'=' * 30}")
    print("\t[Node type]\t[count]\t[avg ms]\t[avg %]\t[cdf %]\t[mem KB]\t[times called]")
    for kind in sorted({row[0] for row in rows}):
        count = sum(row[0] == kind for row in rows)
        cells = (kind, str(count), f"{count * float(rows[0][2]):.3f}", "50.000%", "100.000%")
        print("\t" + "\t".join(cell.rjust(9) for cell in cells) + f"\t0.000\t{count}")
    print("\nTimings (microseconds): count=1 curr=1356\nMemory (bytes): count=0")
    print(f"{len(rows)} nodes observed\n\n")


def _operators(content):
    """Type and output name of every operator, through TensorFlow's schema (without TensorFlow)."""
    schema = _module(_package("tensorflow") / "lite" / "python" / "schema_py_generated.py")
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = code.customCode.decode() if code.customCode else names[code.builtinCode]
        name = graph.tensors[operator.outputs[0]].name.decode()
        found.append((kind, f"[{name}]:{len(found)}"))
    return found


def _package(name):
    return Path(importlib.util.find_spec(name).submodule_search_locations[0])


def _module(path):
    """A module by its path, without the package around it, whose import takes seconds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())

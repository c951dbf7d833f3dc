"""The profile that `lce_benchmark_model --enable_op_profiling=true` prints.

A section after the figures, made of tables: the operators in their order, the slowest of them
again, and a summary by type, with counts that must all agree. Columns are found by the header
row: older tools print `[start]`, newer ones do not.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

# Of a time or a size, as C++ streams print doubles and 64-bit integers; no sign, always finite.
NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,19})?(?:e[+-]?[0-9]{1,2})?"

_SECTION = "Operator-wise Profiling Info for Regular Benchmark Runs:"
_TITLE = re.compile(r"=+ (?P<title>[^=]+) =+")
_EXECUTED = re.compile(r"Number of nodes executed: ([0-9]{1,9})")
_OBSERVED = re.compile(r"([0-9]{1,9}) nodes observed")
_NUMBER = re.compile(NUMBER)


class OutputError(ValueError):
    """The tool's output cannot be trusted."""


@dataclass(frozen=True)
class ProfileRow:
    """One operator: average milliseconds per inference, share of all in [0, 1], calls each."""

    type: str
    name: str
    average_ms: float
    share: float
    calls: int


@dataclass(frozen=True)
class TypeRow:
    """All operators of one type together."""

    type: str
    count: int
    average_ms: float
    share: float
    calls: int


@dataclass(frozen=True)
class Profile:
    """The operators in their order of execution, and by type."""

    rows: tuple[ProfileRow, ...]
    types: tuple[TypeRow, ...]


def parse_profiles(lines: Sequence[str]) -> tuple[Profile, ...]:
    """The profiles of the regular runs: of the graph, then any within delegates.

    Args:
        lines: of the whole output, without the loggers' prefixes.

    Raises:
        OutputError: when there is none, or its tables do not agree.
    """
    starts = [i for i, line in enumerate(lines) if line.strip() == _SECTION]
    if len(starts) != 1:
        raise OutputError(f"The output must hold one line {_SECTION!r}. Received: {len(starts)}")
    if any("Dropping ProfileBuffer" in line for line in lines):
        raise OutputError("The profile is incomplete: the tool's buffer was too small for it")
    blocks: list[list[str]] = []
    for line in lines[starts[0] + 1 :]:
        if _title(line) == "Run Order":
            blocks.append([])
        if blocks:
            blocks[-1].append(line)
    if not blocks:
        raise OutputError("The profile holds no table 'Run Order'")
    return tuple(_profile(block) for block in blocks)


def _title(line: str) -> str:
    match = _TITLE.fullmatch(line.strip())
    return match["title"].strip() if match else ""


def _profile(block: Sequence[str]) -> Profile:
    rows = tuple(
        ProfileRow(
            cells["node type"],
            cells["name"],
            _number(cells["avg ms"]),
            _share(cells["%"]),
            _integer(cells["times called"]),
        )
        for cells in _table(block, "Run Order", ("avg ms", "%", "times called", "name"))
    )
    types = tuple(
        TypeRow(
            cells["node type"],
            _integer(cells["count"]),
            _number(cells["avg ms"]),
            _share(cells["avg %"]),
            _integer(cells["times called"]),
        )
        for cells in _table(
            block, "Summary by node type", ("count", "avg ms", "avg %", "times called")
        )
    )
    for pattern in (_EXECUTED, _OBSERVED):
        counts = [int(match[1]) for line in block if (match := pattern.fullmatch(line.strip()))]
        if counts != [len(rows)]:
            raise OutputError(
                f"The profile shows {len(rows)} operators, and {pattern.pattern!r} says {counts}"
            )
    if Counter(row.type for row in rows) != {row.type: row.count for row in types} or len(
        {row.type for row in types}
    ) != len(types):
        raise OutputError("The profile's operators and its summary by type do not agree")
    return Profile(rows, types)


def _table(block: Sequence[str], title: str, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows below a title, from the header row to the next blank line, by column name."""
    places = [i for i, line in enumerate(block) if _title(line) == title]
    if len(places) != 1:
        raise OutputError(f"The profile must hold one table {title!r}. Received: {len(places)}")
    body = []
    for line in block[places[0] + 1 :]:
        if not line.strip():
            break
        body.append(line)
    else:
        raise OutputError(f"The profile's table {title!r} is cut off")
    if not body:
        raise OutputError(f"The profile's table {title!r} has no header")
    names = [cell.strip().strip("[]").lower() for cell in _cells(body[0], -1)]
    missing = {"node type", *needed} - set(names)
    if missing or len(set(names)) != len(names):
        raise OutputError(f"The profile's table {title!r} has other columns: {body[0]!r}")
    table = []
    for line in body[1:]:
        cells = _cells(line, len(names) - 1)
        if len(cells) != len(names):
            raise OutputError(f"A row of the profile cannot be read: {line!r}")
        table.append(dict(zip(names, (cell.strip() for cell in cells), strict=True)))
    return table


def _cells(line: str, splits: int) -> list[str]:
    if not line.startswith("\t"):
        raise OutputError(f"A row of the profile cannot be read: {line!r}")
    return line[1:].split("\t", splits)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise OutputError(f"A number of the profile cannot be read: {text!r}")
    return float(text)


def _share(text: str) -> float:
    if not text.endswith("%"):
        raise OutputError(f"A share of the profile cannot be read: {text!r}")
    return _number(text[:-1]) / 100


def _integer(text: str) -> int:
    # `int` would take other scripts' digits and underscores.
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise OutputError(f"A count of the profile cannot be read: {text!r}")
    return int(text)

"""The schema says what the loader accepts."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from bitat_tf.cli import main
from bitat_tf.record_schema import json_schema
from bitat_tf.records import from_mapping, to_mapping
from bitat_tf.results import RunResult


@dataclasses.dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"]
    pair: tuple[int, str]


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()
    share: float | None = None
    rest: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def test_every_kind_of_field_has_its_schema():
    schema = json_schema(Outer)
    assert schema["$ref"] == "#/$defs/Outer"
    outer, inner = schema["$defs"]["Outer"], schema["$defs"]["Inner"]
    assert outer["required"] == ["name"]
    assert outer["additionalProperties"] is False
    assert outer["properties"] == {
        "name": {"type": "string"},
        "inner": {"type": "array", "items": {"$ref": "#/$defs/Inner"}},
        "share": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "rest": {"type": "object"},
    }
    assert inner["properties"]["kind"] == {"enum": ["a", "b"]}
    pair = inner["properties"]["pair"]
    assert pair["prefixItems"] == [{"type": "integer"}, {"type": "string"}]
    assert (pair["minItems"], pair["maxItems"]) == (2, 2)


def test_what_json_cannot_hold_is_refused():
    @dataclasses.dataclass
    class Odd:
        things: set

    with pytest.raises(ValueError, match="JSON can hold"):
        json_schema(Odd)


def test_a_record_with_the_required_keys_alone_loads():
    """So the reports of earlier versions do: fields that came later have a default."""
    schema = json_schema(RunResult)["$defs"]["RunResult"]
    least = {"recipe": {}, "versions": {}, "machine": "a machine"}
    assert sorted(schema["required"]) == sorted(least)
    result = from_mapping(RunResult, least)
    assert set(to_mapping(result)) == set(schema["properties"])


def test_a_latency_of_an_earlier_version_loads():
    old = {"model": "float", "device": "host: x", "runtime": "r", "threads": 1, "repeats": 50}
    old |= {"median_ms": 2.4, "p10_ms": 2.3, "p90_ms": 2.9}
    whole = {"recipe": {}, "versions": {}, "machine": "m", "latency": [old]}
    (record,) = from_mapping(RunResult, whole).latency
    assert (record.cores, record.memory_mb) == ("", None)


def test_the_command_prints_it(capsys):
    assert main(["report", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema(RunResult)
    assert main(["report"]) == 2
    assert "--schema" in capsys.readouterr().err

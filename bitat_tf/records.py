"""Frozen dataclasses to and from plain values, strictly: a typo is an error, not a default.

Recipes (YAML) and results (JSON) both load through here.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def check(condition: bool, name: str, constraint: str, received: Any) -> None:
    """Raise a ValueError that names the field, the constraint and the value, unless it holds."""
    if not condition:
        raise ValueError(f"`{name}` must be {constraint}. Received: {received!r}")


def from_mapping(kind: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Build the dataclass `kind` from plain values, strictly.

    Args:
        kind: a dataclass.
        values: field name -> value; nested dataclasses as nested mappings.
        path: where `values` stands in the whole, for messages.

    Raises:
        ValueError: on an unknown or missing key, a value of the wrong type, or one that the
            dataclass refuses.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"`{path or kind.__name__}` must be a mapping. Received: {values!r}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ValueError(f"Unknown key `{path}{key}`. Known here: {', '.join(sorted(fields))}.")
    made = {key: _convert(hints[key], value, f"{path}{key}") for key, value in values.items()}
    for name, f in fields.items():
        no_default = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if no_default and name not in made:
            raise ValueError(f"`{path}{name}` is missing.")
    return kind(**made)


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Check `value` against the annotation `hint`, converting where YAML leaves a choice."""
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, path + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        check(value in arguments, path, f"one of {', '.join(map(repr, arguments))}", value)
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (a for a in arguments if a is not type(None))
        return _convert(hint, value, path)
    if origin is tuple:
        element, *rest = arguments
        check(isinstance(value, list | tuple), path, "a list", value)
        check(rest == [Ellipsis] or len(arguments) == len(value), path, "of another length", value)
        kinds = [element] * len(value) if rest == [Ellipsis] else arguments
        return tuple(
            _convert(k, v, f"{path}[{i}]")
            for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        check(isinstance(value, Mapping), path, "a mapping", value)
        return dict(value)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML reads 1e-3 as a string (it wants 1.0e-3) and 1 as an integer.
        try:
            return float(value)
        except ValueError as err:
            raise ValueError(f"`{path}` must be a number. Received: {value!r}") from err
    right = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    check(right, path, f"of type {hint.__name__}", value)
    return value


def to_mapping(record: Any) -> Any:
    """The plain nested value of a record, as `from_mapping` takes it."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_mapping(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {str(key): to_mapping(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_mapping(value) for value in record]
    return record


def to_json(record: Any) -> str:
    """Indented JSON of a record, or of a plain structure of records; NaN is refused."""
    return json.dumps(to_mapping(record), indent=2, allow_nan=False) + "\n"


def from_json(kind: type[T], text: str) -> T:
    """The record that `to_json` wrote.

    Raises:
        ValueError: when the text is not JSON, or not such a record.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as err:
        raise ValueError(f"Not valid JSON: {err}") from err
    return from_mapping(kind, values)

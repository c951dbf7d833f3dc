"""A JSON Schema of a record, made from the dataclasses that `records` loads by.

Draft 2020-12. It says what `records.from_mapping` says: unknown keys are refused, a field with a
default may be missing, so an older file stays valid when fields are added.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Any: {},
}


def json_schema(kind: type) -> dict[str, Any]:
    """The schema of what `records.to_json` writes of a dataclass.

    Args:
        kind: a dataclass, whose fields are plain values, dataclasses, tuples, mappings,
            literals or one of these or None.

    Raises:
        ValueError: on a field of another type.
    """
    definitions: dict[str, Any] = {}
    top = _of(kind, definitions)
    return {"$schema": _DIALECT, "title": kind.__name__, **top, "$defs": definitions}


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one annotation; dataclasses go to `definitions`."""
    if dataclasses.is_dataclass(hint):
        return _dataclass(typing.cast(type, hint), definitions)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        some = [a for a in arguments if a is not type(None)]
        choices = [_of(argument, definitions) for argument in some]
        return {"anyOf": [*choices, *([{"type": "null"}] if len(some) < len(arguments) else [])]}
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return {"type": "array", "items": _of(arguments[0], definitions)}
        items = [_of(argument, definitions) for argument in arguments]
        return {
            "type": "array",
            "prefixItems": items,
            "minItems": len(items),
            "maxItems": len(items),
        }
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object"}
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    raise ValueError(f"`kind` must have fields that JSON can hold. Received: {hint!r}")


def _dataclass(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    reference = {"$ref": f"#/$defs/{kind.__name__}"}
    if kind.__name__ in definitions:
        return reference
    definitions[kind.__name__] = {}  # a record that holds its own kind must end here
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    definitions[kind.__name__] = {
        "type": "object",
        "properties": {f.name: _of(hints[f.name], definitions) for f in fields},
        "required": [f.name for f in fields if _is_required(f)],
        "additionalProperties": False,
    }
    return reference


def _is_required(field: Any) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing

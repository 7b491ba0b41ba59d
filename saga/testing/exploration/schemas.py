"""A valid value of a pydantic model, made up from its JSON Schema: the least that is allowed, and of lists two items.

Only what pydantic writes is read. A pattern is met by `saga.patterns`; a rule that stands in no schema (a validator of the user's) may
refuse what was made, and then a sample is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from saga.engine.messages import faults
from saga.errors import Misconfigured
from saga.patterns import matching

M = TypeVar("M", bound=BaseModel)

_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1M",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_DEEP = 8  # levels: a schema that refers to itself ends somewhere above


class NoSample(ValueError):
    """No valid value can be made up."""


def made_up(message: type[M], known: Mapping[str, Any], instead: str) -> M:
    """A valid payload; fields that `known` has by the same name are taken from it if they fit.

    Raises Misconfigured, which asks for `instead`, if none can be made up.
    """
    schema = message.model_json_schema()
    needed = schema.get("required", [])
    try:
        made = {name: _value(field, schema, name) for name, field in schema.get("properties", {}).items() if name in needed}
    except NoSample as problem:
        raise Misconfigured(f"no sample of {message.__name__} can be made up: {problem}. Give {instead}") from None
    for borrowed in ({name: known[name] for name in schema.get("properties", {}) if name in known}, {}):
        try:
            return message.model_validate(made | borrowed)
        except ValidationError as error:
            problem_found = error
        except Exception as error:  # a validator of the user's
            raise Misconfigured(f"no sample of {message.__name__} can be made up: {error!r}. Give {instead}") from error
    raise Misconfigured(f"no sample of {message.__name__} can be made up: {faults(problem_found)}. Give {instead}")


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], name: str, depth: int = 0) -> Any:
    """The least value that a JSON Schema allows, as far as pydantic writes schemas."""
    if depth > _DEEP:
        raise NoSample(f"{name} refers to itself")
    if "$ref" in schema:
        return _value(root["$defs"][schema["$ref"].rpartition("/")[2]], root, name, depth + 1)
    for whole in ("const", "default"):
        if whole in schema:
            return schema[whole]
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return _value(_simplest(schema[choice]), root, name, depth + 1)
    make = _MAKERS.get(schema.get("type", "object"))
    if make is None:
        raise NoSample(f"{name} is {dict(schema)}")
    return make(schema, root, name, depth)


def _simplest(choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((each for each in choices if each.get("type") == "null"), choices[0])


def _text(schema: Mapping[str, Any], _root: Any, name: str, _depth: int) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    if "pattern" in schema:
        if (found := matching(schema["pattern"])) is None:
            raise NoSample(f"{name}: no text is known for the pattern {schema['pattern']!r}")
        return found
    least, most = schema.get("minLength", 0), schema.get("maxLength", 100)
    return f"{name}-1"[:most].ljust(least, "-")


def _number(schema: Mapping[str, Any], _root: Any, _name: str, _depth: int) -> int | float:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema) * step)
    value = max(1, least)  # nothing is a special case; one piece, one cent is not
    if value > schema.get("maximum", value) or value >= schema.get("exclusiveMaximum", value + 1):
        value = schema.get("maximum", schema.get("exclusiveMaximum", 1) - step)
    return -(-value // step) * step if isinstance(step, int) and isinstance(value, int) else value


def _array(schema: Mapping[str, Any], root: Mapping[str, Any], name: str, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [_value(each, root, name, depth + 1) for each in schema["prefixItems"]]
    items = schema.get("items", {"type": "string"})
    least = max(schema.get("minItems", 0), min(2, schema.get("maxItems", 2)))  # two: one is no list yet
    found = [_value(items, root, f"{name}-{number}" if number else name, depth + 1) for number in range(least)]
    if schema.get("uniqueItems"):
        found = [each for number, each in enumerate(found) if each not in found[:number]]
    return found


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], _name: str, depth: int) -> dict[str, Any]:
    needed = schema.get("required", [])
    return {name: _value(field, root, name, depth + 1) for name, field in schema.get("properties", {}).items() if name in needed}


_MAKERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], str, int], Any]] = {
    "string": _text,
    "integer": _number,
    "number": _number,
    "boolean": lambda *_: True,
    "null": lambda *_: None,
    "array": _array,
    "object": _object,
}

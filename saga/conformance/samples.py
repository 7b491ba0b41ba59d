"""Payloads for the commands that are sent: those that a person gives, else made from the schema of the command.

A made payload is the plainest that the schema takes: examples and defaults where it has some, else the least that fits. Fields that
name a business id (`id`, `…_id`, `key`) get the conversation's key where that is valid, so a service's rows show what they come from.
What a compensation or a verify has in common with the command that it is about, it gets from that: the same field, the same value.

Whether a service does what it is asked is its own business: an article that does not exist is refused. So a person may say what it knows:

    {"inventory.reserve_stock.v1": [{"order_id": "{key}", "sku": "TEA-SENCHA", "quantity": 1}]}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from saga.engine.messages import Command, faults
from saga.errors import Misconfigured
from saga.patterns import matching

KEY = "{key}"  # in a text of a given sample: the conversation's key, new for each
_DEEPEST = 12  # levels of a schema that is followed: one that refers to itself without end has no least payload
_FORMATS = {
    "uuid": "7f9c24e8-3b12-4fef-91e0-56a2d5a4c9d1",
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1M",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


class Unmade(Exception):
    """No payload can be made from a schema; the text says of what."""


class Samples:
    """Where payloads come from. `given`: by command type, several of each, which take turns."""

    def __init__(self, given: Mapping[str, Sequence[Any]] | None = None) -> None:
        self._given = dict(given or {})

    def check(self, commands: Iterable[type[Command[Any]]]) -> None:
        """Raises Misconfigured for samples of none of these commands."""
        known = sorted({command.__type__ for command in commands})
        if unknown := sorted(self._given.keys() - set(known)):
            raise Misconfigured(
                f"there are samples for {', '.join(unknown)}, which is not asked of it; what is: {', '.join(known)}"
            )

    def count(self, command: type[Command[Any]]) -> int:
        """How many different payloads there are for a command."""
        return len(self._given.get(command.__type__, ())) or 1

    def payload(self, command: type[Command[Any]], key: str, number: int, about: Mapping[str, Any] | None = None) -> Any:
        """The `number`th payload for a conversation; `about`: of the command that this one is about.

        Raises Misconfigured for one that is not valid, or that cannot be made.
        """
        given = self._given.get(command.__type__)
        value = _filled(given[number % len(given)], key) if given else self._made(command, key, about or {})
        if wrong := invalid(command, value):
            where = "the sample given for" if given else "the sample made for"
            hint = "" if given else '; give one that is: --samples FILE with {"' + command.__type__ + '": [{…}]}'
            raise Misconfigured(f"{where} {command.__type__} is not valid: {wrong}{hint}")
        return value

    def _made(self, command: type[Command[Any]], key: str, about: Mapping[str, Any]) -> Any:
        schema = command.model_json_schema(mode="validation")
        try:
            value = _Maker(schema.get("$defs", {}), key).value(schema, "", 0)
        except Unmade as what:
            raise Misconfigured(
                f"no sample can be made for {command.__type__} from its schema ({what}); give one: --samples FILE"
            ) from None
        for name in schema.get("properties", {}):
            if name in about and not invalid(command, {**value, name: about[name]}):
                value[name] = about[name]
        return value


def read_samples(file: Path) -> Samples:
    """The samples in a JSON file: command type → one payload, or a list of several. Raises Misconfigured."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"the samples in {file} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise Misconfigured(f'{file} must be an object: {{"payment.take_payment.v1": [{{…}}, {{…}}]}}')
    given = {type: value if isinstance(value, list) else [value] for type, value in found.items()}
    if empty := [type for type, values in given.items() if not values]:
        raise Misconfigured(f"{file} has no sample for {', '.join(empty)}")
    return Samples(given)


def invalid(message: type[Any], value: Any) -> str:
    """What is wrong with a value of a message class, as a sentence; "" if nothing is."""
    try:
        message.model_validate(value)
    except ValidationError as error:
        return faults(error)
    except Exception as error:  # a validator of the user's may raise anything
        return f"a validator raised {type(error).__name__}: {error}"
    return ""


def _filled(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value.replace(KEY, key)
    if isinstance(value, dict):
        return {name: _filled(part, key) for name, part in value.items()}
    return [_filled(part, key) for part in value] if isinstance(value, list) else value


class _Maker:
    """Makes a value from a JSON Schema, as pydantic writes them."""

    def __init__(self, definitions: Mapping[str, Any], key: str) -> None:
        self._definitions = definitions
        self._key = key

    def value(self, schema: Mapping[str, Any], name: str, level: int) -> Any:
        if level > _DEEPEST:
            raise Unmade(f"{name or 'it'} is nested without end")
        if "$ref" in schema:
            return self.value(self._definitions[str(schema["$ref"]).rpartition("/")[2]] | _without(schema, "$ref"), name, level + 1)
        if (fixed := _said(schema)) is not None:
            return fixed[0]
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._first(schema[several], name, level)
        if len(schema.get("allOf", ())) == 1:
            return self.value(schema["allOf"][0], name, level + 1)
        match schema.get("type"):
            case "object":
                return self._object(schema, level)
            case "array":
                return self._array(schema, name, level)
            case "string":
                return self._text(schema, name)
            case "integer" | "number":
                return _number(schema, whole=schema["type"] == "integer")
            case "boolean":
                return True
            case "null":
                return None
        return {}  # anything will do

    def _first(self, choices: Sequence[Mapping[str, Any]], name: str, level: int) -> Any:
        """The first that can be made; nothing at all only if there is nothing else."""
        why: Unmade | None = None
        for choice in sorted(choices, key=lambda one: one.get("type") == "null"):
            try:
                return self.value(choice, name, level + 1)
            except Unmade as error:
                why = error
        raise why or Unmade(f"{name} has no choice")

    def _object(self, schema: Mapping[str, Any], level: int) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.value(part, name, level + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or _names_an_id(name)
        }

    def _array(self, schema: Mapping[str, Any], name: str, level: int) -> list[Any]:
        fixed = [self.value(part, name, level + 1) for part in schema.get("prefixItems", ())]
        missing = max(0, schema.get("minItems", 0) - len(fixed))
        return fixed + [self.value(schema.get("items") or {}, name, level + 1) for _ in range(missing)]

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        least, most, pattern = schema.get("minLength", 0), schema.get("maxLength"), schema.get("pattern")
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if _names_an_id(name) and _takes(self._key, least, most, pattern):
            return self._key
        if pattern is None:
            return "participant-check"[:most].ljust(least, "x")
        found = matching(pattern)
        if found is None or not _takes(found, least, most, pattern):
            raise Unmade(f"{name}: no text was found for the pattern {pattern}")
        return found


def _said(schema: Mapping[str, Any]) -> tuple[Any] | None:
    """What the schema says itself: an example, the one value it takes, a default."""
    if schema.get("examples"):
        return (schema["examples"][0],)
    if "const" in schema:
        return (schema["const"],)
    if schema.get("enum"):
        return (schema["enum"][0],)
    return (schema["default"],) if schema.get("default") is not None else None


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """One, since none at all is often no business; or what is next to it within the limits."""
    step = schema.get("multipleOf") or (1 if whole else 0.5)
    least = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf) + step)
    most = schema.get("maximum", schema.get("exclusiveMaximum", math.inf) - step)
    value = min(max(1, least), most)
    if schema.get("multipleOf"):
        value = math.ceil(value / step) * step if math.ceil(value / step) * step <= most else math.floor(value / step) * step
    return int(value) if whole else value


def _names_an_id(name: str) -> bool:
    return name in ("id", "key") or re.search(r"(_id|Id|_key)$", name) is not None


def _takes(text: str, least: int, most: int | None, pattern: str | None) -> bool:
    fits = least <= len(text) and (most is None or len(text) <= most)
    return fits and (pattern is None or re.search(pattern, text) is not None)


def _without(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}

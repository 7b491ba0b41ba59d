"""Values with places in them: `{order_id}` is a field of the command, `/charge/id` a place in what the API said.

    "{order_id}"           the field itself, a number stays a number; `{amount.currency}` looks into it
    "order {order_id}"     text with the field in it; {{ and }} are braces
    "{command_id}"         the idempotency key; `{subject_id}` that of the command it is about; `{key}` the saga's key
    "/charge/id"           in what is made of an answer: a JSON Pointer (RFC 6901)
    anything else          itself; in a table or a list each of its values is one of these

The naive way formats strings. An order id `../refunds` then asks for something else than was written, a missing field becomes the
word "None", and an amount becomes text. So a place in a path is one piece of a path or an error, and a place by itself is its value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from string import Formatter
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from saga.participant.work import Failed

IDS = ("command_id", "subject_id", "key")
MAX_KEY = 255  # characters of an idempotency key: the least that large gateways take
_DIGEST = 64  # of it, where the id is longer

Known = Mapping[str, Any]  # the command's fields as JSON, and the ids


class _Missing:
    pass


MISSING: Final = _Missing()


class _Piece(NamedTuple):
    """Literal text, and the place after it; no place at the end."""

    text: str
    place: str | None


@lru_cache(maxsize=1024)
def _pieces(text: str) -> tuple[_Piece, ...]:
    """The pieces of a template. Raises ValueError for one that is none."""
    found = []
    for literal, place, form, conversion in Formatter().parse(text):
        if place is not None and (
            form or conversion or not all(part.isidentifier() or part.isdigit() for part in place.split("."))
        ):
            raise ValueError(f"{text!r}: a place is {{field}} or {{field.of_it}}; write {{{{ for a brace")
        found.append(_Piece(literal, place))
    return tuple(found)


def places(shape: Any) -> Iterator[str]:
    """Every place of the command in it. Raises ValueError for a text that is no template."""
    if isinstance(shape, str):
        yield from (piece.place for piece in _pieces(shape) if piece.place is not None)
    elif isinstance(shape, Mapping):
        for value in shape.values():
            yield from places(value)
    elif isinstance(shape, (list, tuple)):
        for value in shape:
            yield from places(value)


def check(shape: Any, fields: Collection[str]) -> None:
    """Raises ValueError for a place that a command with these fields does not have."""
    for place in places(shape):
        name = place.partition(".")[0]
        if name in IDS and name in fields:
            raise ValueError(f"{{{place}}} may be the command's own field or the id; give the field another name")
        if name not in IDS and name not in fields:
            raise ValueError(f"{{{place}}} is no field of the command, which has {', '.join([*fields, *IDS])}")


def fill(shape: Any, known: Known, said: Any = MISSING) -> Any:
    """The value of a shape. `said`: what the API said, if pointers are to be looked up in it; what is not there is left out of a table.

    Raises Failed for a place of the command that is not there.
    """
    if isinstance(shape, str):
        if said is not MISSING and shape.startswith("/"):
            return look(said, shape)
        pieces = _pieces(shape)
        if len(pieces) == 1 and not pieces[0].text and pieces[0].place is not None:
            return _at(pieces[0].place, known)
        return _text(shape, known, str)
    if isinstance(shape, Mapping):
        return {name: value for name, each in shape.items() if (value := fill(each, known, said)) is not MISSING}
    if isinstance(shape, (list, tuple)):
        return [value for each in shape if (value := fill(each, known, said)) is not MISSING]
    return shape


def path(template: str, known: Known) -> str:
    """A path (and query) with each place quoted. Raises Failed if it would not be the path that was written."""
    filled = _text(template, known, lambda value: quote(value, safe=""))
    for piece in filled.partition("?")[0].split("/")[1:]:
        if unquote(piece) in ("", ".", ".."):
            raise Failed(f"{template}: a value of the command leaves a part of the path empty, or makes it a step up")
    return filled


def look(document: Any, pointer: str) -> Any:
    """What a JSON Pointer finds, or MISSING."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and name.isascii() and name.isdecimal() and int(name) < len(document):
            document = document[int(name)]
        else:
            return MISSING
    return document


def idempotency_key(command_id: str, purpose: str = "") -> str:
    """What an API gets to know a command by: its id, as far as a header can hold it; always the same for the same id.

    `purpose`: a second request for the same command has a key of its own.
    """
    id = f"{command_id}:{purpose}" if purpose else command_id
    key = id if id.isascii() else "".join(each if each.isascii() else quote(each) for each in id)
    if len(key) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - _DIGEST - 1]}:{hashlib.sha256(id.encode()).hexdigest()}"


def _text(template: str, known: Known, write: Callable[[str], str]) -> str:
    parts = []
    for text, place in _pieces(template):
        parts.append(text)
        if place is not None:
            value = _at(place, known)
            if isinstance(value, (dict, list)) or value is None or value == "":
                raise Failed(f"{template}: {{{place}}} of this command is {_kind(value)}")
            parts.append(write(_json(value)))
    return "".join(parts)


def _at(place: str, known: Known) -> Any:
    value: Any = look(known, "/" + place.replace(".", "/"))
    if value is MISSING:
        raise Failed(f"{{{place}}} is not in this command")
    return value


def _json(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return "empty" if value == "" else "a table or a list"

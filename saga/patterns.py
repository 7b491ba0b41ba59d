"""A text that matches a regular expression, for sample payloads whose schema has a `pattern`.

Python's own parser reads the expression; each part of it gives the shortest text that it takes. A look-around or a back-reference is
not followed: the whole text is matched at the end, and if that fails a person has to give a sample.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")  # what `re.compile` parses with; it has no public name since sre_parse was deprecated

_PREFERRED = "a1A-_. "  # of a class of characters, the first of these that is in it
_CATEGORIES = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_WORD": "a",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_SPACE": "a",
}


def matching(pattern: str) -> str | None:
    """A text in which `pattern` is found, as JSON Schema means it; None if none was found, or it cannot be read."""
    try:
        text = _text(_parser.parse(pattern))
        return text if re.search(pattern, text) else None
    except (re.error, ValueError, RecursionError, OverflowError):
        return None


def _text(parts: Any) -> str:
    return "".join(_part(str(operation), argument) for operation, argument in parts)


def _part(operation: str, argument: Any) -> str:
    match operation:
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return next(c for c in _PREFERRED if ord(c) != argument)
        case "ANY":
            return "a"
        case "IN":
            return _one_of(argument)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, _, what = argument
            return _text(what) * int(least)
        case "SUBPATTERN":
            return _text(argument[-1])
        case "ATOMIC_GROUP":
            return _text(argument)
        case "BRANCH":
            return _text(argument[1][0])
        case "CATEGORY":
            return _CATEGORIES.get(str(argument), "")
    return ""  # ^, $, \b, look-arounds: they take no characters


def _one_of(choices: Any) -> str:
    """A character of a class: a usual one if the class has it, else its first."""
    accepted = [str(operation) for operation, _ in choices]
    usual = next((c for c in _PREFERRED if _has(choices, c)), "")
    if usual or "NEGATE" in accepted:
        return usual
    operation, argument = choices[0]
    return chr(argument) if str(operation) == "LITERAL" else chr(argument[0]) if str(operation) == "RANGE" else ""


def _has(choices: Any, character: str) -> bool:
    negated = found = False
    for operation, argument in choices:
        match str(operation):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found |= ord(character) == argument
            case "RANGE":
                found |= argument[0] <= ord(character) <= argument[1]
            case "CATEGORY":
                found |= bool(re.match(_CLASSES[str(argument)], character))
    return found != negated


_CLASSES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
}

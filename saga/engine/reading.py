"""Reading what a user wrote: annotations against what a function will be given, and where in which file it stands (S3)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

from saga.engine.messages import Message
from saga.errors import DefinitionError


def reads(function: Callable[..., Any], takes: Sequence[Any], gives: type) -> Any:
    """Check a function's annotations against what it will be given (Any: whatever it says); say the class that it returns.

    Raises DefinitionError, with the function's file and line.
    """
    where = where_of(function)
    hints, parameters = _signature(function)
    if len(parameters) != len(takes):
        what = f"{name_of(function)} takes {len(parameters)} arguments; it will be given {_names(takes)}"
        raise DefinitionError(what, where)
    for parameter, expected in zip(parameters, takes, strict=True):
        said = hints.get(parameter, expected)
        if not _fits(said, expected):
            what = f"{name_of(function)}: {parameter} is {_name(said)}; it will be given {_name(expected)}"
            raise DefinitionError(what, where)
    given = hints.get("return", None)
    if not (isinstance(given, type) and issubclass(given, gives)):
        named = "nothing" if "return" not in hints else getattr(given, "__name__", str(given))
        raise DefinitionError(f"{name_of(function)} must return a {gives.__name__} and say so; it says {named}", where)
    if issubclass(given, Message) and not given.__type__:
        what = f"{name_of(function)} must return one kind of command; {given.__name__} has no type of its own"
        raise DefinitionError(what, where)
    return given


def type_of_argument(function: Callable[..., Any], number: int, what: str) -> Any:
    """What a function says that an argument is. Raises DefinitionError if it says nothing: there `what` it is must be known."""
    hints, parameters = _signature(function)
    if len(parameters) <= number or parameters[number] not in hints:
        raise DefinitionError(f"{name_of(function)}: say with an annotation what {what} is", where_of(function))
    return hints[parameters[number]]


def returned(function: Callable[..., Any]) -> Any:
    """The class that a function says it returns, where it says one and it can be read; else None."""
    try:
        given = _annotations(function).get("return")
    except Exception:  # a name that is only there for a type checker
        return None
    return given if isinstance(given, type) and given is not Any else None


def name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


def where_of(function: Callable[..., Any]) -> str:
    code = function.__code__ if isinstance(function, FunctionType) else None
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "<no file>"


def caller() -> str:
    """File and line of the first frame outside this package's engine: where the user wrote it."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("saga.engine."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _signature(function: Callable[..., Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The annotations of a function as objects, and its arguments that have no default."""
    try:
        hints = _annotations(function)
    except Exception as error:
        raise DefinitionError(f"{name_of(function)}: an annotation cannot be read: {error}", where_of(function)) from None
    if inspect.iscoroutinefunction(function):
        raise DefinitionError(f"{name_of(function)} is async; a definition decides, it waits for nothing", where_of(function))
    return hints, [name for name, p in inspect.signature(function).parameters.items() if p.default is p.empty]


def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations as objects; names may be local to the function in which the saga is being defined."""
    frame = inspect.currentframe()
    names: dict[str, Any] = {}
    while frame is not None:
        if frame.f_code.co_filename == getattr(function, "__code__", _NO_CODE).co_filename:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return inspect.get_annotations(function, eval_str=True, globals=getattr(function, "__globals__", {}), locals=names)


_NO_CODE: CodeType = compile("", "<no file>", "exec")


def _fits(said: Any, expected: Any) -> bool:
    if said is Any or expected is Any or said == expected:
        return True
    if isinstance(said, type) and isinstance(expected, type):
        return issubclass(expected, said)
    return not isinstance(said, type)  # a union, a protocol …: mypy knows better


def _names(classes: Iterable[Any]) -> str:
    return "(" + ", ".join(map(_name, classes)) + ")"


def _name(what: Any) -> str:
    return "an item" if what is Any else getattr(what, "__name__", str(what))

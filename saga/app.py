"""What belongs together in one deployment: the sagas, the participants that take their commands, and how many partitions.

    app = App(sagas=[checkout], participants=[payment, inventory], begin="earliest")

The command line finds it by `[tool.saga] app = "services:app"` in pyproject.toml, or by `--app`.
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from saga.engine.book import Book
from saga.engine.definition import Saga
from saga.engine.messages import Event
from saga.errors import Misconfigured, SagaError
from saga.participant import Participant
from saga.raised import place, raised, told

DEFAULT_PARTITIONS = 16  # fixed when the topics are created; more orchestrators than partitions would be idle
Begin = Literal["earliest", "latest"] | datetime


@dataclass(frozen=True)
class Reactor:
    """A service that only listens: to event classes, or to all events of a topic. A description for `saga map`; nothing here runs it."""

    name: str
    listens: Sequence[type[Event] | str]


class App:
    """The composition root. `begin` says where an input topic is first read from: its earliest or latest record, or a time.

    Raises Misconfigured, or DefinitionError with file and line, for a mistake in what it is given.
    """

    def __init__(
        self,
        *,
        sagas: Sequence[Saga[Any, Any]],
        participants: Sequence[Participant] = (),
        reactors: Sequence[Reactor] = (),
        begin: Begin,
        partitions: int = DEFAULT_PARTITIONS,
    ) -> None:
        if partitions < 1:
            raise Misconfigured(f"partitions must be at least 1, not {partitions}")
        if begin not in ("earliest", "latest") and not (isinstance(begin, datetime) and begin.tzinfo is not None):
            raise Misconfigured(f'begin= is "earliest", "latest" or a datetime with a time zone, not {begin!r}')
        names = [participant.name for participant in participants]
        if len(set(names)) < len(names):
            raise Misconfigured(f"two participants have the same name: {sorted(names)}")
        listening = [reactor.name for reactor in reactors]
        if len(set(listening)) < len(listening):
            raise Misconfigured(f"two reactors have the same name: {sorted(listening)}")
        self.sagas = tuple(sagas)  # as they were given; `book` has the schedules too
        self.book = Book(sagas)
        self.participants = {participant.name: participant for participant in participants}
        self.reactors = tuple(reactors)
        self.partitions = partitions
        self.begin = begin


def find_app(name: str | None, directory: Path) -> App:
    """The App named "module:attribute", or by [tool.saga] in the nearest pyproject.toml at or above `directory`.

    Raises Misconfigured, saying what was looked for and where; of what the module itself raised, the file and line, and Python's hint.
    """
    if name is None:
        for folder in (directory, *directory.parents):
            file = folder / "pyproject.toml"
            if file.is_file():
                name = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("saga", {}).get("app")
                directory = folder
                break
    if not name:
        raise Misconfigured(
            f'no app is named: write [tool.saga] app = "module:app" in pyproject.toml, or --app (looked from {directory})'
        )
    if ":" not in name:
        raise Misconfigured(f"the app {name!r} is not module:attribute; did you mean '{name}:app'?")
    module, _, attribute = name.partition(":")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except SagaError:  # a mistake in a definition says where it is
        raise
    except Exception as error:  # whatever the user's module raises
        raise Misconfigured(_in_module(told(error)) or f"the app {name!r} cannot be imported from {directory}: {error}") from error
    if not isinstance(found, App):
        raise Misconfigured(f"{name!r} is a {type(found).__name__}, not an App")
    return found


def _in_module(detail: str) -> str:
    """What was raised while an app was imported: `hotel.py:118: NameError: …`; "" if it was in no line of the user's."""
    if (where := place(detail)) is None:
        return ""
    file = Path(where.file)
    here = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{here}:{where.line}: {raised(detail)}"

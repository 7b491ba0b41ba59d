"""What services answer on the bench: what the test says, and beside it what follows by itself.

A command for which nothing was said is done, as long as its reply can be made of the command's own fields: most tests are about one
answer, and the others should not have to be written. What cannot be made up is asked for, by an error that says what to write.

Whatever is said, the protocol is kept: a command that comes twice gets the same answer, a compensation or verify of something that
never happened answers `nothing`, and that is then never executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from saga.cloudevents import header_fields, parse
from saga.engine.messages import Command, Message, Refusal
from saga.engine.state import Action
from saga.log.base import StoredRecord
from saga.participant import Nothing, Refused
from saga.participant.command import Address, read_address
from saga.participant.outbox import Departure

Say = Callable[[Any], Message]


class Silence(Exception):
    """Raised by a function that answers: the service does not answer this time, as if the command or its reply were lost."""


class Unanswered(AssertionError):
    """Nobody said what a service answers to a command, and it cannot be made up."""


class WrongAnswer(TypeError):
    """A test says that a service answers what the command does not allow."""


@dataclass
class Line:
    """One thing to say, `left` times (None: always)."""

    say: Say
    left: int | None


@dataclass(frozen=True)
class Asked:
    """One command as it came."""

    address: Address
    payload: Command[Any]
    action: Action
    subject: str

    @property
    def id(self) -> str:
        return self.address.command_id


class Script:
    """The answers of all services that the test plays. `commands`: those that the sagas send."""

    def __init__(self, commands: Iterable[type[Command[Any]]]) -> None:
        self.commands = {command.__type__: command for command in commands}
        self._lines: dict[str, list[Line]] = {}
        self._settled: dict[str, tuple[str, Message | None]] = {}  # outcome and reply, by command id
        self._failed: dict[tuple[str, str], Exception] = {}  # by command id and attempt
        self._closed: set[str] = set()  # execute commands that must never be executed any more

    def tell(self, command: type[Command[Any]], say: Say, times: int | None) -> None:
        """From now on say this. With `times`, so often, behind what was said with `times` before; else instead of it."""
        lines = self._lines.setdefault(command.__type__, [])
        if times is None:
            lines[:] = [line for line in lines if line.left]
        lines.append(Line(say, times))
        lines.sort(key=lambda line: line.left is None)  # stable: what is said for ever comes last

    def answer(self, record: StoredRecord, service: str, now: int) -> Departure | None:
        """The answer to a command record; None for silence. Raises Unanswered, or WrongAnswer."""
        asked = self._read(record, service)
        attempt = (asked.id, asked.address.attempt)
        try:
            if attempt in self._failed:  # a copy of the same attempt, as after a crash: no second chance
                raise self._failed[attempt]
            outcome, message = self._decide(asked)
        except (Unanswered, WrongAnswer):
            raise
        except Exception as error:  # as of a handler: a technical failure, of this attempt only
            self._failed[attempt] = error
            return None if isinstance(error, Silence) else asked.address.failed(str(error) or type(error).__name__, now)
        self._settle(asked, outcome, message)
        return asked.address.settled(outcome, message, now)

    def force(self, record: StoredRecord, service: str, message: Message, now: int) -> Departure:
        """Answer this command so, whatever was answered before: a late reply."""
        asked = self._read(record, service)
        outcome, _ = outcome_of(type(asked.payload), message)
        self._settle(asked, outcome, message)
        return asked.address.settled(outcome, message, now)

    # --- its pieces ---------------------------------------------------------------------------------------------------------------

    def _read(self, record: StoredRecord, service: str) -> Asked:
        fields = header_fields(record.headers)
        address = read_address(record, fields, service)
        assert address is not None, f"a command without an address: {record}"
        payload = self.commands[fields["type"]].model_validate(parse(record, fields).data)
        return Asked(address, payload, Action(address.action), fields.get("sagasubject", ""))

    def _decide(self, asked: Asked) -> tuple[str, Message | None]:
        if asked.id in self._settled:
            return self._settled[asked.id]
        if asked.id in self._closed:
            return "nothing", None
        lines = self._lines.get(asked.payload.__type__, [])
        if not lines:
            return self._by_itself(asked)
        line = lines[0]
        if line.left is not None:
            line.left -= 1
            if not line.left:
                lines.pop(0)
        try:
            return outcome_of(type(asked.payload), line.say(asked.payload))
        except Refused as no:
            return outcome_of(type(asked.payload), no.refusal)
        except Nothing:
            if asked.action is Action.EXECUTE:
                what = (
                    f"{type(asked.payload).__name__} executes a step: it is done or refused; nothing answers compensate and verify"
                )
                raise WrongAnswer(what) from None
            return "nothing", None

    def _by_itself(self, asked: Asked) -> tuple[str, Message | None]:
        if asked.action is not Action.EXECUTE:
            outcome, message = self._settled.get(asked.subject, ("nothing", None))
            if outcome != "done":
                return "nothing", None
            if asked.action is Action.VERIFY:
                return outcome, message
        command = type(asked.payload)
        given = {name: getattr(asked.payload, name) for name in command.__reply__.model_fields if hasattr(asked.payload, name)}
        try:
            return "done", command.__reply__.model_validate(given)
        except ValidationError as error:
            raise Unanswered(_how_to_answer(asked.payload, error)) from None

    def _settle(self, asked: Asked, outcome: str, message: Message | None) -> None:
        self._settled[asked.id] = (outcome, message)
        if asked.action is Action.EXECUTE:
            return
        if outcome == "nothing":
            self._closed.add(asked.subject)
        elif asked.action is Action.VERIFY:
            self._settled[asked.subject] = (outcome, message)


def outcome_of(command: type[Command[Any]], message: Any) -> tuple[str, Message]:
    """The outcome that a message is for a command. Raises WrongAnswer if it is none of its answers."""
    if isinstance(message, command.__reply__):
        return "done", message
    if isinstance(message, command.__refusals__) and isinstance(message, Refusal):
        return "refused", message
    names = " or ".join(answer.__name__ for answer in (command.__reply__, *command.__refusals__))
    raise WrongAnswer(f"{command.__name__} is answered by {names}, not by {message!r}")


def checked(command: type[Command[Any]], message: Message) -> Say:
    """Always the same answer. Raises WrongAnswer at once if the command has no such answer."""
    outcome_of(command, message)
    return lambda _: message


def _how_to_answer(payload: Command[Any], error: ValidationError) -> str:
    command, reply = type(payload).__name__, type(payload).__reply__
    missing = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_url=False))
    return (
        f"nobody said what {payload.__service__} answers to {payload!r}, and {reply.__name__} cannot be made of it (it needs {missing}). "
        f"Say bench.answer({command}, {reply.__name__}(...)), or bench.refuse, bench.fail or bench.silence"
    )

"""Messages are classes: what a service says (Event), what it is asked (Command), and its business "no" (Refusal).

    class PaymentTaken(Event, type="payment.taken.v1"): ...
    class PaymentDeclined(Refusal, type="payment.declined.v1"): ...
    class TakePayment(Command[PaymentTaken], service="payment", refuses=(PaymentDeclined,)): ...

The name on the wire is always written, never taken from the class: a renamed class must not change the protocol. The first segment
of an event's type is the service that publishes it, so a type alone says its topic: `payment.taken.v1` is on `payment.events`.
A command's type may be left out; it is then `<service>.<class in snake case>.v1`.
"""

from __future__ import annotations

import inspect
import re
from builtins import type as class_of  # `type` is also a keyword of our class statements
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from saga.errors import DefinitionError

TYPE = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+\.v[0-9]+")
FAILED = "saga.failed.v1"  # a technical failure; may be retried
NOTHING = "saga.nothing.v1"  # compensate: there was nothing to undo; verify: it never happened and never will
EXPIRED = "saga.expired.v1"  # the command is older than the participant's memory: its outcome is unknown
PROTOCOL_TYPES = {"failed": FAILED, "nothing": NOTHING, "expired": EXPIRED}  # by outcome: answers that are no domain event
UNDO, RELEASE = "saga.undo.v1", "saga.release.v1"  # what a parent tells its child: undo it; it need not be kept any more (S28)
# What a child answers its parent on `saga.requests`: the words that its outcome has on `saga.events`.
CHILD_COMPLETED, CHILD_COMPENSATED, CHILD_REJECTED = "saga.completed.v1", "saga.compensated.v1", "saga.rejected.v1"

DEADLETTERS = "saga.deadletter"  # the topic of what cannot be read or decided, the coordinator's and the participants'
REQUESTS = "saga.requests"  # the topic of what is meant for one instance: operators' actions, forwards, what parent and child say

MOST_FAULTS = 5  # of one value, told in a line: who mends these sees the others

SERVICE = re.compile(r"[a-z][a-z0-9_-]*")
Refuses: TypeAlias = "tuple[class_of[Message], ...] | class_of[Message]"


class Message(BaseModel):
    """A value that travels in a record. Unknown fields are ignored, so a sender may add some; values are immutable."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)  # it may be private

    __type__: ClassVar[str] = ""
    __service__: ClassVar[str] = ""
    __where__: ClassVar[str] = ""

    def __init_subclass__(cls, *, type: str = "", service: str = "", refuses: Refuses = (), **more: Any) -> None:
        super().__init_subclass__(**more)

    @classmethod
    def __pydantic_init_subclass__(cls, *, type: str = "", service: str = "", refuses: Refuses = (), **more: Any) -> None:
        super().__pydantic_init_subclass__(**more)
        if cls.__module__ == __name__ or cls.__pydantic_generic_metadata__["origin"] is not None:
            return  # our own base classes, and Command[Reply] itself
        cls.__where__ = _where()
        # One class needs no tuple; nor does a class statement's keyword tell mypy that it was forgotten.
        cls._declare(type, service, tuple(refuses) if isinstance(refuses, tuple | list) else (refuses,))

    @classmethod
    def _declare(cls, type: str, service: str, refuses: tuple[class_of[Message], ...]) -> None:
        if not TYPE.fullmatch(type):
            raise DefinitionError(
                f"{cls.__name__} needs a type= like 'payment.taken.v1' (service first, version last, lower case); it says {type!r}",
                cls.__where__,
            )
        if service and service != type.split(".")[0]:
            raise DefinitionError(f"{cls.__name__}: type {type!r} does not begin with its service {service!r}", cls.__where__)
        if refuses:
            raise DefinitionError(f"{cls.__name__}: only a command refuses", cls.__where__)
        cls.__type__ = type
        cls.__service__ = type.split(".")[0]


class Event(Message):
    """A fact that a service publishes on `<service>.events`."""


class Refusal(Message):
    """A service's business "no" to a command: final, and it means that nothing was done (S12)."""


R = TypeVar("R", bound=Event)


class Command(Message, Generic[R]):
    """What a service is asked to do; `R` is the event that says it is done."""

    __reply__: ClassVar[class_of[Event]]
    __refusals__: ClassVar[tuple[class_of[Refusal], ...]] = ()

    @classmethod
    def _declare(cls, type: str, service: str, refuses: tuple[class_of[Message], ...]) -> None:
        cls.__reply__ = _reply_of(cls)
        service = service or type.split(".")[0]
        if not SERVICE.fullmatch(service):
            what = f"{cls.__name__} needs service=, the participant that takes it; it says {service!r}"
            raise DefinitionError(what, cls.__where__)
        type = type or f"{service}.{snake(cls.__name__)}.v1"
        super()._declare(type, service, ())
        wrong = [r for r in refuses if not (isinstance(r, class_of) and issubclass(r, Refusal))]
        if wrong:
            raise DefinitionError(f"{cls.__name__}: refuses= takes Refusal classes, not {wrong!r}", cls.__where__)
        answers = cast("tuple[class_of[Message], ...]", (cls.__reply__, *refuses))
        for answer in answers:
            if answer.__service__ != cls.__service__:
                raise DefinitionError(
                    f"{cls.__name__} goes to {cls.__service__!r} but its answer {answer.__name__} is {answer.__type__!r}: "
                    "an answer belongs to the service that takes the command",
                    cls.__where__,
                )
        cls.__refusals__ = cast("tuple[class_of[Refusal], ...]", refuses)


def topic_of(message: type[Message]) -> str:
    """The topic a message travels on: `<service>.commands` for a command, `<service>.events` for anything else."""
    return (commands_topic if issubclass(message, Command) else events_topic)(message.__service__)


def events_topic(service: str) -> str:
    return f"{service}.events"


def commands_topic(service: str) -> str:
    return f"{service}.commands"


def _reply_of(command: type[Command[Any]]) -> type[Event]:
    for base in command.__mro__:
        meta = getattr(base, "__pydantic_generic_metadata__", None)
        if meta and meta["origin"] is Command:
            (reply,) = meta["args"]
            if isinstance(reply, class_of) and issubclass(reply, Event):
                return reply
            what = f"{command.__name__}: Command[...] takes the Event class that answers it, not {reply!r}"
            raise DefinitionError(what, command.__where__)
    raise DefinitionError(f"{command.__name__}: write Command[TheEventThatAnswersIt]", command.__where__)


def faults(error: ValidationError) -> str:
    """What is wrong with a value, in one line and without the value, which may be private."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[:MOST_FAULTS]
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'value'}: {each['msg']}" for each in found)


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _where() -> str:
    """The file and line of the class statement: the first frame outside this module and pydantic."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != __name__ and not name.startswith("pydantic") and name not in ("abc", "typing"):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "<unknown>"

"""What all steps of a saga have in common, and what each can be told.

The kinds of steps (`kinds`) differ in what begins when their turn comes and in what settles them. All else (retries, what an unknown
outcome means, how they are undone, whether they are wanted at all) is the same, and is asked of `AnyStep`: the engine has one way for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypedDict, TypeVar, get_args

from pydantic import BaseModel

from saga.engine.messages import (
    PROTOCOL_TYPES,
    Command,
    Message,
    events_topic,
)
from saga.engine.policy import (
    COMPENSATE_RETRY,
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT,
    VERIFY_RETRY,
    Retry,
    Unknown,
)
from saga.engine.reading import reads, where_of
from saga.engine.state import Action
from saga.errors import DefinitionError

if TYPE_CHECKING:
    from saga.engine.definition import Saga

MOMENT = timedelta(milliseconds=1)  # the engine's clock knows nothing shorter

D = TypeVar("D", bound=BaseModel)


class Unset:
    """The type of UNSET: nothing was said, which is not the same as None."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


class Node:
    """A place in a saga that a step can come after."""

    name: str
    where: str


class _Start(Node):
    name = "START"
    where = "saga"


START: Final[Node] = _Start()
After = Node | Sequence[Node]


@dataclass(frozen=True)
class Unless:
    """The condition that another step was skipped: the other side of an if (S18)."""

    node: Node


def unless(node: Node) -> Unless:
    """For `when=`: this step runs if and only if the other one was skipped."""
    return Unless(node)


class Options(TypedDict, Generic[D], total=False):
    """What every kind of step can be told.

    `when`: it runs only if this holds, asked once (S18): a function of the data, a step (if that one was not skipped), or
    `unless(step)`. `best_effort`: if it fails, that is noted and changes nothing (S1).
    """

    when: Callable[[D], bool] | Node | Unless
    best_effort: bool


class CommandOptions(Options[D], Generic[D], total=False):
    """What a step with a command can be told besides.

    `timeout` is for one attempt (None: until the deadline; written on purpose). `unknown` says what happens when the last attempt got
    no answer: "verify", "compensate" or "park" (S14). `compensation=None` says that there is nothing to undo.
    """

    timeout: timedelta | None
    retry: Retry
    unknown: Unknown | None
    compensation: None


class StepOptions(CommandOptions[D], Generic[D], total=False):
    """`pivot`: from this step on there is no way back (S19)."""

    pivot: bool


class AnyStep(Node, Generic[D]):
    """What all kinds have in common. `options` are checked here; what is not said has its default from `policy`."""

    allowed: type = Options

    def __init__(self, saga: Saga[Any, D], name: str, where: str, after: tuple[Node, ...], options: Mapping[str, Any]) -> None:
        self.saga, self.name, self.where, self.after = saga, name, where, after
        known = self.allowed.__optional_keys__  # type: ignore[attr-defined]
        for option in options:
            if option not in known:
                raise DefinitionError(f"{name}: there is no {option}= here; there are {', '.join(sorted(known))}", where)
        self.when: Callable[[D], bool] | Node | Unless | None = options.get("when")
        self.best_effort: bool = options.get("best_effort", False)
        self.pivot: bool = options.get("pivot", False)
        self.timeout: timedelta | None = options.get("timeout", DEFAULT_TIMEOUT)
        self.retry: Retry = options.get("retry", DEFAULT_RETRY)
        self.unknown: Unknown | None = options.get("unknown")
        self.compensation: Callable[..., Command[Any]] | Unset | None = options.get("compensation", UNSET)
        self.command: Callable[..., Any] | None = None
        self.command_class: type[Any] | None = None
        self.compensation_class: type[Any] | None = None
        self.finder: Callable[..., Command[Any]] | None = None
        self.finder_class: type[Any] | None = None
        self.receive: Callable[..., D] | None = None
        self._check_options()

    @property
    def undoable(self) -> bool:
        """Can its effect be undone?"""
        return self.compensation_class is not None

    def command_for(self, action: Action) -> type[Any] | None:
        """The message that is sent for an action; None if this step has none."""
        classes = {
            Action.EXECUTE: self.command_class,
            Action.VERIFY: self.finder_class,
            Action.COMPENSATE: self.compensation_class,
        }
        return classes[action]

    def retry_for(self, action: Action) -> Retry:
        return {Action.EXECUTE: self.retry, Action.VERIFY: VERIFY_RETRY, Action.COMPENSATE: COMPENSATE_RETRY}[action]

    def when_unknown(self) -> Unknown:
        """What follows when the last attempt got no answer (S14): as it was written, else whatever the step can."""
        return self.unknown or ("verify" if self.finder else "compensate" if self.undoable else "park")

    def answered_on(self, action: Action) -> str:
        """The topic on which an action's command is answered."""
        return events_topic(self.command_for(action).__service__)  # type: ignore[union-attr]

    def answers(self, action: Action, outcome: str) -> dict[str, type[BaseModel] | None]:
        """The types that can bring this outcome, with the class of what they carry (None: nothing that is read)."""
        command: Any = self.command_for(action)
        if outcome in PROTOCOL_TYPES:
            return {PROTOCOL_TYPES[outcome]: None}
        classes = (command.__reply__,) if outcome == "done" else command.__refusals__
        return {message.__type__: message for message in classes}

    def outline(self) -> str:
        """Its structure in one line: links, kind and message types; no time-outs, retries or function bodies (S5)."""
        parts = ["after " + ", ".join(sorted(node.name for node in self.after)), *self._kind()]
        if self.pivot:
            parts.append("pivot")
        if self.compensation_class is not None:
            parts.append("compensated by " + types(self.compensation_class))
        if self.finder_class is not None:
            parts.append("verified by " + types(self.finder_class))
        if self.when is not None:
            other = self.when.node if isinstance(self.when, Unless) else self.when
            condition = other.name if isinstance(other, Node) else "a condition"
            parts.append(f"unless {condition}" if isinstance(self.when, Unless) else f"when {condition}")
        if self.best_effort:
            parts.append("best effort")
        return "; ".join(parts)

    def _kind(self) -> list[str]:
        return [types(self.command_class)]

    def messages(self) -> list[type[Message]]:
        """Every message class that it reads or sends."""
        found: list[type[Message]] = []
        for command in (self.command_class, self.compensation_class, self.finder_class):
            if command is not None:
                found += [command, command.__reply__, *command.__refusals__]
        return found

    def _check_options(self) -> None:
        retry = self.retry
        if self.timeout is not None and self.timeout < MOMENT:
            raise DefinitionError(f"timeout= must be at least a millisecond, not {self.timeout}", self.where)
        if retry.attempts < 1 or retry.first < MOMENT or retry.longest < retry.first or not 1 <= retry.factor <= 1000:
            what = "retry= takes at least 1 attempt, a first pause of at least 1 ms, a longest not below it, a factor of 1 to 1000"
            raise DefinitionError(f"{what}; not {retry}", self.where)
        if self.unknown not in (None, *get_args(Unknown)):
            raise DefinitionError(f'unknown= is "verify", "compensate" or "park", not {self.unknown!r}', self.where)
        if not (self.compensation is None or isinstance(self.compensation, Unset)):
            raise DefinitionError("compensation= is only ever None; write a compensation with @<step>.compensate", self.where)
        if self.best_effort and self.unknown == "park":
            raise DefinitionError(f'{self.name}: a best effort calls no operator, so it has no unknown="park"', self.where)
        if not (self.when is None or callable(self.when) or isinstance(self.when, Node | Unless)):
            raise DefinitionError(f"when= takes a function of the data, a step, or unless(step), not {self.when!r}", self.where)

    def _read_compensation(self, function: Callable[..., Command[Any]], takes: Sequence[Any]) -> None:
        self._once(None if isinstance(self.compensation, Unset) else function, "compensate", function)
        self.compensation_class = reads(function, takes, Command)
        self.compensation = function

    def _read_finder(self, function: Callable[..., Command[Any]], takes: Sequence[Any]) -> None:
        self._once(self.finder, "verify", function)
        found, own = reads(function, takes, Command), self.command_class
        assert own is not None
        if found.__reply__ is not own.__reply__:
            raise DefinitionError(
                f"{self.name}: verify asks with {found.__name__}, which is answered by {found.__reply__.__name__}; "
                f"it must be the step's own reply, {own.__reply__.__name__}",
                where_of(function),
            )
        self.finder, self.finder_class = function, found

    def _read_done(self, function: Callable[..., D], takes: Sequence[Any]) -> None:
        self._once(self.receive, "done", function)
        reads(function, takes, self.saga.data)
        self.receive = function

    def _once(self, there: object, what: str, function: Callable[..., Any]) -> None:
        if there is not None:
            or_none = " (or compensation=None)" if what == "compensate" else ""
            raise DefinitionError(f"{self.name} has a {what}{or_none} already", where_of(function))


def types(command: Any) -> str:
    """A command with what answers it, as an outline shows it."""
    refusals = "".join(f" | {r.__type__}" for r in command.__refusals__)
    return f"{command.__type__} → {command.__reply__.__type__}{refusals}"

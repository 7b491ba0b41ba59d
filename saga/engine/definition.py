"""How a saga is written: a module that reads as the process.

    checkout = Saga("checkout", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Checkout, deadline=minutes(30))

    @checkout.step(after=START)
    def pay(c: Checkout) -> TakePayment: ...
    @pay.done
    def paid(c: Checkout, reply: PaymentTaken) -> Checkout: ...
    @pay.compensate
    def refund(c: Checkout, sent: TakePayment) -> ReturnPayment: ...

What can be seen from one line is checked on that line; what needs the whole (`Saga.check`) when the saga is put into an `App`, which is
at import too. The graph cannot have a cycle or an unreachable step: a link is an object, and must exist before it is linked to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, Unpack

from pydantic import BaseModel

from saga.engine.calendar import Schedule, Slot
from saga.engine.graph import Graph
from saga.engine.kinds import Chain, Child, Mapped, Pause, Step, Wait
from saga.engine.messages import Command, Event, Message, snake
from saga.engine.nodes import START, After, AnyStep, CommandOptions, Node, Options, StepOptions
from saga.engine.policy import DEFAULT_AT_ONCE, DEFAULT_REMEMBER
from saga.engine.reading import caller, name_of, reads, where_of
from saga.engine.state import Instance
from saga.errors import DefinitionError

MAX_STEPS = 200  # S2: more than a person can follow; and an instance's whole state has to fit in 1 MiB

D = TypeVar("D", bound=BaseModel)
S = TypeVar("S", bound=Message)
X = TypeVar("X", bound=Message)
E = TypeVar("E", bound=Event)
K = TypeVar("K", bound=BaseModel)
I = TypeVar("I")  # noqa: E741 - an item of a mapped step
C = TypeVar("C", bound=Command[Any])


class Saga(Generic[S, D]):
    """A definition: what starts it, its data, and its steps.

    `version` is raised whenever the structure changes (S5); `key` gives the business id; `deadline` is for the whole saga (S25);
    a finished instance is remembered for `remember`, so that a repeated start is answered and not run again (S6).
    Raises DefinitionError, with file and line, for each mistake.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int,
        starts_on: type[S],
        key: Callable[[S], str],
        data: type[D],
        deadline: timedelta,
        remember: timedelta = DEFAULT_REMEMBER,
    ) -> None:
        self.where = caller()
        if not name.isascii() or not name.replace("-", "").isalnum() or not name == name.lower():
            raise DefinitionError(f"a saga's name is lower-case letters, digits and '-'; this one is {name!r}", self.where)
        if version < 1 or deadline <= timedelta(0) or remember <= timedelta(0):
            raise DefinitionError(f"{name}: version, deadline and remember must be more than nothing", self.where)
        if not (isinstance(starts_on, type) and issubclass(starts_on, Message)) or not starts_on.__type__:
            raise DefinitionError(f"{name}: starts_on= takes a message class, not {starts_on!r}", self.where)
        if not (isinstance(data, type) and issubclass(data, BaseModel)):
            raise DefinitionError(f"{name}: data= takes a pydantic model class, not {data!r}", self.where)
        if not callable(key):
            raise DefinitionError(f"{name}: key= takes a function of the event, not {key!r}", self.where)
        self.name = name
        self.version = version
        self.starts_on = starts_on
        self.key = key
        self.data = data
        self.deadline = deadline
        self.remember = remember
        self.begin: Callable[[S], D] | None = None
        self.again: Callable[[D, datetime], D | None] | None = None
        self.steps: dict[str, AnyStep[D]] = {}
        self.timetable: dict[str, tuple[Schedule, Callable[[Slot], S]]] = {}
        self.schedule: Schedule | None = None  # of a saga that is one itself (see `schedules`)
        self._graph: Graph | None = None

    def start(self, function: Callable[[S], D]) -> Callable[[S], D]:
        """How the first data comes from the event that starts the saga."""
        if self.begin is not None:
            raise DefinitionError(f"{self.name} has a start already", where_of(function))
        reads(function, [self.starts_on], self.data)
        self.begin = function
        return function

    def step(self, *, after: After, **options: Unpack[StepOptions[D]]) -> Callable[[Callable[[D], C]], Step[D, C]]:
        """A step: the function says which command is sent once all steps in `after` are settled.

        Options: `timeout`, `retry`, `unknown`, `compensation=None`, `pivot`, `when`, `best_effort`; see StepOptions.
        """
        links = self._links(after)
        return lambda function: self._add(Step(self, function, links, options))

    def each(
        self,
        items: Callable[[D], Sequence[I]],
        *,
        after: After,
        at_once: int = DEFAULT_AT_ONCE,
        **options: Unpack[CommandOptions[D]],
    ) -> Callable[[Callable[[D, I], C]], Mapped[D, I, C]]:
        """A step for each item (S17): `items` is asked once, and `at_once` of them are on their way together."""
        mapped: Mapped[D, I, Any] = Mapped(self, items, at_once, self._links(after), options)
        return lambda function: self._add(mapped.define(function))

    def expect(
        self,
        event: type[E],
        *,
        key: Callable[[E], str],
        after: After,
        within: timedelta | None,
        name: str = "",
        **options: Unpack[Options[D]],
    ) -> Wait[D, E]:
        """A wait for an event that some service publishes without being asked; `key` gives this saga's key from it.

        One that comes before its turn is kept (S7). `within`: its time, from when its turn came; None: until the saga's deadline.
        """
        wait = self._wait(event, after, within, name, options)
        if not callable(key):
            raise DefinitionError(f"{wait.name}: key= takes a function of the event, not {key!r}", wait.where)
        wait.key = key
        return self._add(wait)

    def ask(
        self,
        answer: type[E],
        *,
        after: After,
        within: timedelta | None,
        role: str,
        escalate: str = "",
        name: str = "",
        **options: Unpack[Options[D]],
    ) -> Wait[D, E]:
        """A person of this role answers, with `saga answer`; when `within` is over without an answer, the role `escalate` may too."""
        wait = self._wait(answer, after, within, name, options)
        if not role.isidentifier() or (escalate and not escalate.isidentifier()):
            raise DefinitionError(f"{wait.name}: role= and escalate= are words, not {role!r} and {escalate!r}", wait.where)
        wait.role, wait.escalate = role, escalate
        return self._add(wait)

    def pause(
        self, until: Callable[[D], datetime] | timedelta, *, after: After, name: str, **options: Unpack[Options[D]]
    ) -> Pause[D]:
        """A wait for a time: so long from when its turn comes, or until the time (with a zone) that a function of the data says."""
        pause: Pause[D] = Pause(self, name, caller(), self._links(after), options)
        if not (callable(until) or isinstance(until, timedelta)):
            raise DefinitionError(f"{name}: a pause takes a timedelta or a function of the data, not {until!r}", pause.where)
        if isinstance(until, timedelta) and until <= timedelta(0):
            raise DefinitionError(f"{name}: a pause must be more than nothing, not {until}", pause.where)
        pause.until = until
        return self._add(pause)

    def child(
        self, saga: Saga[X, K], *, after: After, **options: Unpack[StepOptions[D]]
    ) -> Callable[[Callable[[D], X]], Child[D, K]]:
        """Start another saga with the event that the function gives, and wait for its outcome (S28)."""
        links = self._links(after)
        return lambda function: self._add(Child(self, saga, function, links, options))

    def starts(self, saga: Saga[X, Any], *, after: After, **options: Unpack[Options[D]]) -> Callable[[Callable[[D], X]], Chain[D]]:
        """Start another saga with the event that the function gives, once, and go on without waiting (S28)."""
        links = self._links(after)
        return lambda function: self._add(Chain(self, saga, function, links, options))

    def every(
        self, cron: str, *, tz: str, missed: str = "once", overlap: str = "skip"
    ) -> Callable[[Callable[[Slot], S]], Callable[[Slot], S]]:
        """Start this saga by the clock: the function gives the event that starts it from the slot whose turn it is.

        `missed`, for slots that passed while no orchestrator ran: "skip", "once" (one run for all of them), "all". `overlap`, for slots
        that come while the last run still goes on: "skip", "queue", "allow".
        """
        where = caller()
        try:
            schedule = Schedule(cron, tz, missed, overlap)  # type: ignore[arg-type]
        except ValueError as error:
            raise DefinitionError(f"{self.name}: {error}", where) from None

        def add(function: Callable[[Slot], S]) -> Callable[[Slot], S]:
            reads(function, [Slot], self.starts_on)
            name = name_of(function).replace("_", "-")
            if not name.isascii() or name != name.lower():
                what = f"a schedule's name is its function's, and part of a saga's: lower-case ASCII letters; this one is {name!r}"
                raise DefinitionError(what, where_of(function))
            if name in self.timetable:
                raise DefinitionError(f"{self.name} has a schedule {name!r} already", where_of(function))
            self.timetable[name] = schedule, function
            return function

        return add

    def renew(self, function: Callable[[D, datetime], D | None]) -> Callable[[D, datetime], D | None]:
        """When all is done, begin anew under the same key with the data that the function gives; None ends it.

        It is given the data and the time (UTC). So a process that never ends is many runs, each with an outcome.
        """
        if self.again is not None:
            raise DefinitionError(f"{self.name} has a renew already", where_of(function))
        self.again = function
        return function

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            self._graph = Graph(self.steps.values())
        return self._graph

    def runs(self, state: Instance) -> bool:
        """Is this the very definition that an instance runs: its version, with the structure it had (S5)?"""
        return (self.version, self.graph.hash) == (state.version, state.hash)

    def check(self) -> None:
        """The rules that need the whole definition (S1, S4). Raises DefinitionError for the first that is broken."""
        if self.begin is None:
            raise DefinitionError(f"{self.name} has no @{self.name}.start: how does its data come from the event?", self.where)
        self.graph.check(self.name, self.where)

    def messages(self) -> list[type[Message]]:
        """Every message class this saga reads or sends, in the order of its steps, each once."""
        found: dict[type[Message], None] = {self.starts_on: None}
        for step in self.steps.values():
            found.update(dict.fromkeys(step.messages()))
        return list(found)

    def _wait(self, event: type[E], after: After, within: timedelta | None, name: str, options: Any) -> Wait[D, E]:
        where = caller()
        if not (isinstance(event, type) and issubclass(event, Event)) or not event.__type__:
            raise DefinitionError(f"{self.name}: a wait takes an event class, not {event!r}", where)
        if event.__type__ == self.starts_on.__type__:
            what = (
                f"{self.name} starts on {event.__type__}, so it cannot wait for it too: which of the two would one that comes be?"
            )
            raise DefinitionError(what, where)
        if within is not None and within <= timedelta(0):
            raise DefinitionError(f"{self.name}: within= must be more than nothing, not {within}", where)
        wait = Wait(self, name or snake(event.__name__), where, self._links(after), options, event)
        wait.within = within
        return wait

    def _add(self, step: _StepT) -> _StepT:
        if not (step.name.isascii() and step.name.isidentifier()) or step.name == START.name:
            what = f"a step's name is its function's: an ASCII name, and not START; this one is {step.name!r}"
            raise DefinitionError(what, step.where)
        if step.name in self.steps:
            what = f"{self.name} has a step {step.name!r} already, at {self.steps[step.name].where}"
            raise DefinitionError(what, step.where)
        if len(self.steps) >= MAX_STEPS:
            raise DefinitionError(f"{self.name} has more than {MAX_STEPS} steps", step.where)
        self.steps[step.name] = step
        self._graph = None
        return step

    def _links(self, after: Any) -> tuple[Node, ...]:
        where = caller()
        nodes = tuple(after) if isinstance(after, Sequence) and not isinstance(after, str) else (after,)
        if not nodes:
            raise DefinitionError("after= is empty; write after=START for a first step", where)
        for node in nodes:
            if not isinstance(node, Node):
                raise DefinitionError(f"after= takes START or a step (the object, not its name), not {node!r}", where)
            if isinstance(node, AnyStep) and node.saga is not self:
                raise DefinitionError(f"after={node.name} is a step of another saga, {node.saga.name!r}", where)
        if len(set(nodes)) < len(nodes):
            raise DefinitionError("after= names the same step twice", where)
        if START in nodes and len(nodes) > 1:
            raise DefinitionError("after= names START and a step; every step comes after START", where)
        return nodes


_StepT = TypeVar("_StepT", bound=AnyStep[Any])


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def hours(n: float) -> timedelta:
    return timedelta(hours=n)


def days(n: float) -> timedelta:
    return timedelta(days=n)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)

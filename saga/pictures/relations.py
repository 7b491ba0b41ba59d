"""How sagas, services and reactors hang together: who starts whom, who is asked for what, who waits for or listens to which events.

Read from the definitions alone, in their order, once for every format. A service is whoever takes a command or publishes an event that some
saga knows; `where` says what of this app it is, and `unhandled` which of its commands have no handler there. A schedule is a saga of its
own to the engine; on the map it is a clock of the saga that it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from saga.engine.definition import Saga
from saga.engine.kinds import Chain, Child, Wait
from saga.engine.state import Action

OUTCOMES = "saga"  # the service, so to say, of what coordinators tell on saga.events
Where = Literal["service", "reactor", "outcomes", "elsewhere"]  # what of this app a service is, if it is of this app


@dataclass(frozen=True, slots=True)
class Starts:
    """One saga starts another: and waits for its outcome (a child), or does not."""

    saga: str
    other: str
    waits: bool


@dataclass
class Actor:
    """A saga, or a reactor. By service: the commands it sends, and the events it awaits or listens to, by their classes' names."""

    name: str
    starts_on: str = ""
    started_by: str = ""  # the service whose event starts it
    clocks: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()  # of persons who are asked
    sends: dict[str, list[str]] = field(default_factory=dict)
    hears: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Service:
    """`commands` and `events`: with the names of the sagas and reactors that know them."""

    name: str
    where: Where
    commands: dict[str, list[str]] = field(default_factory=dict)
    events: dict[str, list[str]] = field(default_factory=dict)
    unhandled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relations:
    sagas: tuple[Actor, ...]
    services: tuple[Service, ...]
    reactors: tuple[Actor, ...]
    starts: tuple[Starts, ...]

    def parents(self, saga: str) -> list[Starts]:
        return [one for one in self.starts if one.other == saga and one.saga != saga]


def relations_of(
    sagas: Iterable[Saga[Any, Any]],
    handled: Mapping[str, frozenset[str]],
    reactors: Mapping[str, Sequence[tuple[str, str]]],
    only: frozenset[str] = frozenset(),
) -> Relations:
    """`handled`: the commands' types that each participant of the app takes. `reactors`: to what each listens, as (service, event).

    `only`: the sagas to show, with what they start and what starts them; none for all.
    """
    shown = [saga for saga in sagas if saga.schedule is None]
    starts = [one for saga in shown for one in _starts(saga)]
    if only:
        near = only | {one.other for one in starts if one.saga in only} | {one.saga for one in starts if one.other in only}
        shown = [saga for saga in shown if saga.name in near]
        starts = [one for one in starts if one.saga in near and one.other in near]
    types: dict[str, dict[str, str]] = {}
    actors = [_actor(saga, types) for saga in shown]
    listening = [Actor(name, hears=_grouped(what)) for name, what in reactors.items()]
    services: dict[str, Service] = {}

    def service(name: str) -> Service:
        where: Where = (
            "outcomes" if name == OUTCOMES else "service" if name in handled else "reactor" if name in reactors else "elsewhere"
        )
        return services.setdefault(name, Service(name, where))

    for actor in [*actors, *listening]:
        if actor.started_by:
            service(actor.started_by).events.setdefault(actor.starts_on, []).append(actor.name)
        for name, commands in actor.sends.items():
            for command in commands:
                service(name).commands.setdefault(command, []).append(actor.name)
        for name, events in actor.hears.items():
            for event in events:
                service(name).events.setdefault(event, []).append(actor.name)
    for name in [] if only else handled:
        service(name)
    for name, taken in handled.items():
        if found := services.get(name):
            found.unhandled = tuple(command for command in found.commands if types[name][command] not in taken)
    ordered = sorted(services.values(), key=lambda found: found.name == OUTCOMES)
    return Relations(tuple(actors), tuple(ordered), tuple(listening), tuple(dict.fromkeys(starts)))


def _starts(saga: Saga[Any, Any]) -> Iterable[Starts]:
    for step in saga.steps.values():
        if isinstance(step, Child | Chain):
            yield Starts(saga.name, step.child.name, isinstance(step, Child))


def _actor(saga: Saga[Any, Any], types: dict[str, dict[str, str]]) -> Actor:
    clocks = tuple(f"{schedule.cron} {schedule.tz}" for schedule, _ in saga.timetable.values())
    actor = Actor(saga.name, saga.starts_on.__name__, saga.starts_on.__service__, clocks)
    for step in saga.steps.values():
        for action in () if isinstance(step, Child | Chain) else Action:
            command = step.command_for(action)
            if command is not None and command.__name__ not in actor.sends.setdefault(command.__service__, []):
                actor.sends[command.__service__].append(command.__name__)
                types.setdefault(command.__service__, {})[command.__name__] = command.__type__
        if isinstance(step, Wait) and not step.role and step.event.__name__ not in actor.hears.get(step.event.__service__, ()):
            actor.hears.setdefault(step.event.__service__, []).append(step.event.__name__)
        if isinstance(step, Wait) and step.role:
            actor.roles = tuple(dict.fromkeys([*actor.roles, step.role, *([step.escalate] if step.escalate else [])]))
    return actor


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for service, event in pairs:
        found.setdefault(service, []).append(event)
    return found

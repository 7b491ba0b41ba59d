"""Which commands a participant takes: what the steps of an app's sagas send it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saga.engine.definition import Saga
from saga.engine.kinds import Waiting
from saga.engine.messages import Command
from saga.engine.state import Action
from saga.errors import Misconfigured

CommandClass = type[Command[Any]]


@dataclass(frozen=True)
class Offer:
    """One step: the command that does it, the one that undoes it, and the question whether it was done.

    `compensate` and `verify` are None where the step has none, or where another service takes it: then it is none of this one's rows.
    """

    saga: str
    step: str
    execute: CommandClass
    compensate: CommandClass | None
    verify: CommandClass | None

    @property
    def commands(self) -> dict[Action, CommandClass]:
        found = {Action.EXECUTE: self.execute, Action.COMPENSATE: self.compensate, Action.VERIFY: self.verify}
        return {action: command for action, command in found.items() if command is not None}


def offers_of(sagas: Mapping[str, Saga[Any, Any]], service: str) -> list[Offer]:
    """What these sagas ask of a service, each combination once. Raises Misconfigured if that is nothing."""
    found: dict[tuple[CommandClass | None, ...], Offer] = {}
    services: set[str] = set()
    for saga in sagas.values():
        for step in saga.steps.values():
            execute = step.command_class
            if execute is None or not issubclass(execute, Command):
                continue  # it waits, or begins another saga
            services.add(execute.__service__)
            if execute.__service__ == service:
                compensate, verify = _of(step.compensation_class, service), _of(step.finder_class, service)
                found.setdefault((execute, compensate, verify), Offer(saga.name, step.name, execute, compensate, verify))
    if not found:
        known = ", ".join(sorted(services)) or "none"
        raise Misconfigured(f"no saga of this app sends a command to {service!r}; its participants: {known}")
    return list(found.values())


def heard_by(offers: Iterable[Offer], sagas: Mapping[str, Saga[Any, Any]]) -> list[tuple[str, str, str]]:
    """Sagas to which an answer to these commands is more than an answer, each as (type, "starts" or "is awaited by", saga)."""
    replies = {command.__reply__.__type__ for offer in offers for command in offer.commands.values()}
    found = [(saga.starts_on, "starts", saga.name) for saga in sagas.values()]
    for saga in sagas.values():
        awaited = [step.event for step in saga.steps.values() if isinstance(step, Waiting) and step.event is not None]
        found += [(event, "is awaited by", saga.name) for event in awaited]
    return [(event.__type__, what, name) for event, what, name in found if event.__type__ in replies]


def _of(command: Any, service: str) -> CommandClass | None:
    taken = command is not None and issubclass(command, Command) and command.__service__ == service
    return command if taken else None

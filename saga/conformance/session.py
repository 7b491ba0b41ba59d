"""The whole check of a participant: what will be sent, then all of it in order, and what was found.

The order matters. First one command of each kind: where nothing is answered, nothing more is asked. Garbage comes last, since a
participant that stops at it answers nothing from then on. What was done is undone at the end, where it has a compensation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from saga.conformance.behaviour import Behaviour, Opened
from saga.conformance.crowd import IN_A_ROW, Remains, forgetful, in_order, many_keys
from saga.conformance.findings import Finding
from saga.conformance.form import Form
from saga.conformance.garbage import PIECES, Garbage
from saga.conformance.offers import Offer, heard_by, offers_of
from saga.conformance.player import NAME, Heard, Player, Sent, Talk, found_topics
from saga.conformance.samples import Samples
from saga.engine.definition import Saga
from saga.engine.messages import commands_topic, events_topic
from saga.log.base import Log

DEFAULT_KEYS = 20
DEFAULT_PATIENCE = 30.0  # seconds: what an attempt of a step has unless its definition says otherwise

Told = Callable[[str, Sequence[Finding]], None]  # a heading, and what was found under it


def nobody(_heading: str, _findings: Sequence[Finding]) -> None:
    """For who only wants the whole."""


@dataclass(frozen=True)
class Asked:
    """How much is asked. `patience` in seconds; `remembers` in ms, None if nobody said; `garbage`: whether some is sent."""

    patience: float = DEFAULT_PATIENCE
    keys: int = DEFAULT_KEYS
    remembers: int | None = None
    garbage: bool = True


@dataclass(frozen=True)
class Plan:
    """What would be sent: commands with a payload each, and how many of them can have an effect."""

    topic: str
    answers: str
    commands: Sequence[Mapping[str, Any]]
    done_at_most: int
    garbage: int
    heard: Sequence[tuple[str, str, str]]  # (type, "starts" or "is awaited by", saga): answers that are more than answers

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Subject:
    """Who is checked: a service, what sagas ask of it, with which payloads; and `heard`, the answers that are more than answers."""

    service: str
    offers: Sequence[Offer]
    samples: Samples
    heard: Sequence[tuple[str, str, str]]


def subject(sagas: Mapping[str, Saga[Any, Any]], service: str, samples: Samples) -> Subject:
    """Raises Misconfigured if no saga asks anything of the service, or a sample is of no command that it takes."""
    offers = offers_of(sagas, service)
    samples.check(command for offer in offers for command in offer.commands.values())
    return Subject(service, offers, samples, heard_by(offers, sagas))


async def plan(log: Log, of: Subject, asked: Asked) -> Plan:
    """Raises Misconfigured for a topic that is not there, or a payload that is not valid or cannot be made. Sends nothing."""
    await found_topics(log, of.service)
    commands, key = [], f"{NAME}-1"
    for offer in of.offers:
        for number in range(of.samples.count(offer.execute)):
            about = of.samples.payload(offer.execute, key, number)
            for action, command in offer.commands.items():
                data = of.samples.payload(command, key, number, about)
                commands.append(
                    {"step": f"{offer.saga} {offer.step}", "action": str(action), "type": command.__type__, "data": data}
                )
    pieces = len(PIECES) + 1 if asked.garbage else 0
    # Of each offer: the first; each sample once, and perhaps once more to find one that is done, twice; and two that must not be.
    most = sum(3 + 3 * of.samples.count(offer.execute) for offer in of.offers) + asked.keys + IN_A_ROW + pieces + 2
    return Plan(commands_topic(of.service), events_topic(of.service), commands, most, pieces, of.heard)


@dataclass(frozen=True)
class Checked:
    """What was found, and what was done for it: records sent, effects that were undone again, effects that are left.

    `keys`: how the keys of all of it begin.
    """

    findings: Sequence[Finding]
    keys: str
    sent: int
    undone: int
    left: int


async def check(log: Log, of: Subject, asked: Asked, told: Told = nobody) -> Checked:
    """Ask a participant that runs; `told` hears what was found, a part at a time.

    Raises Misconfigured for a topic that is not there or a payload that cannot be made, Unavailable if the log does not answer.
    """
    found: list[Finding] = []

    def tell(heading: str, findings: Sequence[Finding]) -> None:
        found.extend(findings)
        told(heading, findings)

    async with Player(log, of.service, asked.patience) as player:
        form, remains = Form(of.service, player.partitions[events_topic(of.service)]), Remains()

        def answered(talk: Talk, sent: Sent, heard: Heard) -> None:
            form.look(talk, sent, heard)
            remains.hear(talk, sent, heard.outcome)

        player.answered = answered
        behaviours = [Behaviour(player, offer, of.samples) for offer in of.offers]
        first = await asyncio.gather(*(behaviour.answered() for behaviour in behaviours))
        await _each(behaviours, first, tell)
        there = [behaviour for behaviour, (_, opened) in zip(behaviours, first, strict=True) if opened.answer is not None]
        if not there:
            return Checked(found, player.keys, player.sent, 0, 0)
        able = [behaviour for behaviour in there if behaviour.settles] or there  # what only fails shows less, and takes longer
        tell("many commands at once", [await many_keys(player, able, asked.keys), await in_order(player, able)])
        tell("old commands", await forgetful(player, able, asked.remembers))
        garbage = Garbage(player, able[0])
        if asked.garbage:
            tell("what cannot be read", await garbage.all())
        tell("every answer", [*(behaviour.once() for behaviour in there), *form.findings()])
        undone, left = await remains.undo(player, [] if garbage.stopped else there, of.samples)
        return Checked(found, player.keys, player.sent, undone, left)


async def _each(behaviours: Sequence[Behaviour], first: Sequence[tuple[Finding, Opened]], tell: Told) -> None:
    """What holds of each kind of command, side by side; told in order."""

    async def more(behaviour: Behaviour, opened: Opened) -> list[Finding]:
        return await behaviour.all() if opened.answer is not None else []

    ran = await asyncio.gather(*(more(behaviour, opened) for behaviour, (_, opened) in zip(behaviours, first, strict=True)))
    for behaviour, (finding, _), findings in zip(behaviours, first, ran, strict=True):
        tell(f"{behaviour.offer.saga} {behaviour.offer.step}: {behaviour.offer.execute.__type__}", [finding, *findings])

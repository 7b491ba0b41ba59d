"""What a participant must do with many commands at once, with old ones, and what is left behind by all of this."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from saga.conformance.behaviour import Behaviour, Opened
from saga.conformance.findings import Claim, Finding, Rule
from saga.conformance.player import NAMELESS, Player, Sent, Talk
from saga.conformance.samples import Samples
from saga.engine.state import Action
from saga.ops.operate import wall_clock

IN_A_ROW = 10  # commands of one key at once: enough for a service that works on them side by side to mix them up
BEYOND = 3_600_000  # ms beyond what a participant remembers: clocks differ

MANY = Claim("many-keys", "", "commands of many keys at once are all answered", Rule.ANSWER)
ORDER = Claim("order", "", "commands of one key at once are answered in their order", Rule.ORDER)
EXPIRED = Claim("expired", "", "a command older than what it remembers is answered expired", Rule.EXPIRED)
FORGOTTEN = Claim("forgotten", "", "asked of a command older than that, it says expired and not nothing", Rule.FORGOTTEN)


async def many_keys(player: Player, behaviours: Sequence[Behaviour], keys: int) -> Finding:
    """So many keys, each with one command; those that are done are what `Behaviour.once` compares with."""

    async def one(number: int) -> Opened:
        behaviour = behaviours[number % len(behaviours)]
        opened = await behaviour.open(number=number)
        behaviour.single.append(opened)
        return opened

    asked = await asyncio.gather(*(one(number) for number in range(keys)))
    silent = [opened.talk for opened in asked if opened.answer is None]
    if silent:
        numbers = ", ".join(map(str, sorted({talk.number for talk in silent})))
        came = f"{keys - len(silent)} within {player.patience:g} s; none to partition {numbers}"
        return MANY.fails(f"{keys} answers", came, f"key {silent[0].key}")
    return MANY.holds(f"{keys} keys on {len({opened.talk.number for opened in asked})} partitions")


async def in_order(player: Player, behaviours: Sequence[Behaviour]) -> Finding:
    """Commands of one key, sent without waiting for answers."""
    if player.nameless:
        return ORDER.skipped(NAMELESS)
    talk, events = player.talk(), []
    for number in range(IN_A_ROW):
        behaviour = behaviours[number % len(behaviours)]
        step = f"{behaviour.offer.step}-{number + 1}"
        events.append((behaviour.offer.execute, talk.sent(behaviour.offer.execute, behaviour.next_payload(talk), step)))
    sent = await player.send(talk, *events)
    wanted = [one.id for one in sent]

    def answered() -> list[str]:
        return list(dict.fromkeys(one["ce_sagacommand"] for one in talk.heard if one["ce_sagacommand"] in wanted))

    await player.until(lambda: len(answered()) == len(wanted))
    for one in sent:
        if (answer := next((heard for heard in talk.heard if heard["ce_sagacommand"] == one.id), None)) is not None:
            player.answered(talk, one, answer)
    if missing := [id for id in wanted if id not in answered()]:
        return ORDER.fails(f"{len(wanted)} answers", f"{len(answered())} within {player.patience:g} s", missing[0])
    if answered() != wanted:
        numbers = " ".join(str(wanted.index(id) + 1) for id in answered())
        return ORDER.fails(" ".join(str(number + 1) for number in range(len(wanted))), numbers, f"key {talk.key}")
    return ORDER.holds(f"{len(wanted)} commands")


async def forgetful(player: Player, behaviours: Sequence[Behaviour], remembers: int | None) -> list[Finding]:
    """Commands that are older than what the participant remembers, in ms; None: nobody said how long that is."""
    if remembers is None:
        return [claim.skipped("say how long it remembers: --remembers 30d") for claim in (EXPIRED, FORGOTTEN)]
    behaviour = next((one for one in behaviours if one.offer.compensate or one.offer.verify), behaviours[0])
    offer = behaviour.offer
    talk = player.talk(age=remembers + BEYOND)
    payload = behaviour.next_payload(talk)
    _, answer = await player.ask(talk, offer.execute, talk.sent(offer.execute, payload, offer.step))
    found = [
        EXPIRED.holds() if answer is not None and answer.outcome == "expired" else behaviour.unlike(EXPIRED, "expired", answer)
    ]
    asks = offer.compensate or offer.verify
    if asks is None:
        return [*found, FORGOTTEN.skipped("no command here is compensated or asked about")]
    talk = player.talk(age=remembers + BEYOND)
    talk.decided = wall_clock()  # the saga began long ago, and decides this only now
    about = behaviour.next_payload(talk)
    action = Action.COMPENSATE if offer.compensate is not None else Action.VERIFY
    event = talk.sent(asks, behaviour.payload(action, talk, about), offer.step, action)
    _, answer = await player.ask(talk, asks, event)
    held = answer is not None and answer.outcome == "expired"
    return [*found, FORGOTTEN.holds() if held else behaviour.unlike(FORGOTTEN, "expired", answer)]


class Remains:
    """What was done for the check and can be undone; `hear` notes it, `undo` compensates it."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[Talk, Sent]] = {}

    def hear(self, talk: Talk, sent: Sent, outcome: str) -> None:
        if sent.action is Action.EXECUTE and outcome == "done":
            self._done[sent.id] = (talk, sent)

    async def undo(self, player: Player, behaviours: Sequence[Behaviour], samples: Samples) -> tuple[int, int]:
        """Compensate what has a compensation; how many were undone, and how many are left."""
        compensations = {one.offer.execute: one.offer.compensate for one in behaviours}
        asked = []
        for talk, sent in self._done.values():
            compensation = compensations.get(sent.command)
            if compensation is None:
                continue
            about = orjson.loads(sent.record.value or b"{}")
            event = talk.sent(compensation, samples.payload(compensation, talk.key, talk.turn, about), sent.step, Action.COMPENSATE)
            asked.append(player.ask(talk, compensation, event))
        answers = await asyncio.gather(*asked)
        undone = sum(answer is not None and answer.outcome == "done" for _, answer in answers)
        return undone, len(self._done) - undone

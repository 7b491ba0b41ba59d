"""What cannot be read must harm nothing: it is set aside or passed over, never answered `done`, and what comes next is answered.

Each piece is a good command with one thing spoiled. A good one of the same key follows it at once, so a participant that stopped is
noticed by its silence, and one that goes on has been through the garbage when the good one is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from saga.conformance.behaviour import NOT_SETTLED, Behaviour
from saga.conformance.findings import Claim, Finding, Rule
from saga.conformance.player import GRACE, NAMELESS, Heard, Player, Talk
from saga.engine.messages import commands_topic
from saga.engine.state import Action
from saga.errors import Rejected, SagaError
from saga.log.base import Headers, Record

NESTED = 20_000  # levels of brackets: a parser that calls itself falls over
HUGE = 1_000_000  # bytes of a header, about as many as a broker takes unless it is told otherwise
WHOLE = 60_000  # bytes up to which a dead letter must be whole
AFTER = "after-garbage"  # the step of the good command

FAILED = Claim("failed", "", "failed is not stored, and has a new id each time", Rule.FAILED)
DEADLETTERS = Claim("deadletters", "", "what it set aside is whole, and says from where and why", Rule.DEADLETTER)


class Piece(NamedTuple):
    name: str
    says: str
    spoil: Callable[[Record], Record]
    rule: Rule = Rule.UNREADABLE


def _value(value: bytes | None) -> Callable[[Record], Record]:
    return lambda good: Record(good.key, value, good.headers)


def _header(name: str, *values: bytes) -> Callable[[Record], Record]:
    """With another value for one header, without it, or with several of it."""

    def spoil(good: Record) -> Record:
        others: Headers = tuple(header for header in good.headers if header[0] != name)
        return Record(good.key, good.value, (*others, *((name, value) for value in values)))

    return spoil


def _twice(good: Record) -> Record:
    return Record(good.key, good.value, (*good.headers, ("ce_sagacommand", dict(good.headers)["ce_sagacommand"] + b"-2")))


PIECES = (
    Piece("no-value", "a record without a value", _value(None)),
    Piece("bytes", "a value of random bytes", _value(bytes(range(128, 256)) * 2)),
    Piece("json", "a value that breaks off", _value(b'{"participant-check": ')),
    Piece("schema", "JSON of another shape", _value(b'["participant-check"]')),
    Piece("nesting", f"JSON nested {NESTED:,} deep", _value(b"[" * NESTED + b"]" * NESTED)),
    Piece("unknown-type", "a type that nobody knows", _header("ce_type", b"participant-check.unknown.v1")),
    Piece("action", "an action that does not exist", _header("ce_sagaaction", b"participant-check")),
    Piece("no-headers", "no headers", lambda good: Record(good.key, good.value)),
    Piece("no-address", "no ce_sagacommand", _header("ce_sagacommand")),
    Piece("no-time", "no ce_time", _header("ce_time")),
    Piece("twice", "ce_sagacommand twice, and not the same", _twice, Rule.TWICE),
    Piece("encoding", "a ce_sagacommand that is not UTF-8", _header("ce_sagacommand", b"\xff\xfe\xfd"), Rule.TWICE),
    Piece("huge-header", "a ce_sagacommand of a megabyte", _header("ce_sagacommand", b"x" * HUGE)),
)
NO_SUBJECT = Piece("no-subject", "a compensation without ce_sagasubject", _header("ce_sagasubject"))


class Garbage:
    """Throws all pieces, one after the other, until the participant stops."""

    def __init__(self, player: Player, behaviour: Behaviour) -> None:
        self._player = player
        self._behaviour = behaviour
        self.stopped = ""  # at what
        self._fails_aloud = False  # it says `failed` to what it cannot read
        self._set_aside: list[tuple[Record, Heard]] = []

    async def all(self) -> list[Finding]:
        found: list[Finding] = []
        for piece in (*PIECES, NO_SUBJECT):
            claim = Claim(f"garbage-{piece.name}", "", piece.says, piece.rule)
            if self._player.nameless:
                found.append(claim.skipped(NAMELESS))
            elif self.stopped:
                found.append(claim.skipped(f"it stopped at {self.stopped}"))
            elif piece is NO_SUBJECT and self._behaviour.offer.compensate is None:
                found.append(claim.skipped("this step has no compensation here"))
            else:
                finding, goes_on = await self._throw(claim, piece)
                found.append(finding)
                self.stopped = "" if goes_on else piece.says
        if self.stopped:
            return [*found, FAILED.skipped(f"it stopped at {self.stopped}"), self._dead_letters()]
        return [*found, await self._failed(), self._dead_letters()]

    async def _throw(self, claim: Claim, piece: Piece) -> tuple[Finding, bool]:
        """One piece, then a good command of the same key. Whether it goes on is said too."""
        talk = self._player.talk()
        spoiled = piece.spoil(self._good(talk, piece))
        try:
            await self._player.publish(talk, [spoiled])
        except SagaError as error:
            if isinstance(error, Rejected) or isinstance(error.__cause__, Rejected):
                return claim.skipped(f"the topic does not take it: {error}"), True
            raise
        execute = self._behaviour.offer.execute
        good, answer = await self._player.ask(talk, execute, talk.sent(execute, self._behaviour.next_payload(talk), AFTER))
        if answer is None:
            return claim.fails("an answer to the next command of the key", f"none within {self._player.patience:g} s"), False
        for one in talk.heard:
            if one.outcome and one.outcome != "failed" and one["ce_sagacommand"] != good.id:
                return claim.fails("failed, or no answer", str(one), one.record.place), True
        failed = any(one.outcome == "failed" and one["ce_sagacommand"] != good.id for one in talk.heard)
        self._fails_aloud |= failed and piece.name == "schema"
        await self._player.until(lambda: bool(talk.dead), GRACE)
        self._set_aside += [(spoiled, dead) for dead in talk.dead]
        aside = f"set aside: {talk.dead[0]['ce_sagareason'] or 'without a reason'}" if talk.dead else "passed over"
        return claim.holds(f"{aside}{', answered failed' if failed else ''}"), True

    def _good(self, talk: Talk, piece: Piece) -> Record:
        offer, step = self._behaviour.offer, "garbage"
        payload = self._behaviour.next_payload(talk)
        if piece is NO_SUBJECT and offer.compensate is not None:
            undo = self._behaviour.payload(Action.COMPENSATE, talk, payload)
            return talk.sent(offer.compensate, undo, step, Action.COMPENSATE).record(talk.key.encode())
        return talk.sent(offer.execute, payload, step).record(talk.key.encode())

    async def _failed(self) -> Finding:
        """A command that cannot be read, twice, then as it should be, under one id."""
        if not self._behaviour.settles:
            return FAILED.skipped(NOT_SETTLED)
        if not self._fails_aloud:
            mute = "it does not answer what it cannot read, so no failure could be had"
            return FAILED.skipped(NAMELESS if self._player.nameless else mute)
        talk, offer = self._player.talk(), self._behaviour.offer
        payload = self._behaviour.next_payload(talk)
        answers = []
        for attempt, value in enumerate((["participant-check"], ["participant-check"], payload), 1):
            _, answer = await self._player.ask(talk, offer.execute, talk.sent(offer.execute, value, offer.step, attempt=attempt))
            if answer is None:
                return FAILED.fails(f"an answer to attempt {attempt}", f"no answer within {self._player.patience:g} s")
            answers.append(answer)
        first, second, last = answers
        if last.outcome not in ("done", "refused"):
            return FAILED.fails("attempt 3, which can be read, is run: done or refused", str(last), last.record.place)
        if first["ce_id"] == second["ce_id"]:
            return FAILED.fails("a new ce_id for the second failure", f"ce_id: {second['ce_id']} again", second.record.place)
        return FAILED.holds()

    def _dead_letters(self) -> Finding:
        if not self._set_aside:
            why = NAMELESS if self._player.nameless else "it set nothing aside: what it cannot read is lost"
            return DEADLETTERS.skipped(why)
        for thrown, dead in self._set_aside:
            if missing := [name for name in ("ce_sagaorigin", "ce_sagareason", "ce_sagadetail") if name not in dead.fields]:
                return DEADLETTERS.fails(f"header {missing[0]}", "none", dead.record.place)
            if not re.search(rf"{re.escape(commands_topic(self._player.service))}:\d+:\d+$", dead["ce_sagaorigin"]):
                where = f"{commands_topic(self._player.service)}:<partition>:<offset>"
                return DEADLETTERS.fails(f"ce_sagaorigin: {where}", dead["ce_sagaorigin"], dead.record.place)
            small = len(thrown.value or b"") + sum(len(name) + len(raw) for name, raw in thrown.headers) < WHOLE
            if small and dead.record.value != thrown.value:
                return DEADLETTERS.fails("the value as it came", "another", dead.record.place)
            if small and (lost := [name for name, raw in thrown.headers if (name, raw) not in dead.record.headers]):
                return DEADLETTERS.fails("the headers as they came", f"{lost[0]} is not there, or another", dead.record.place)
        return DEADLETTERS.holds(f"{len(self._set_aside)} records")

"""What must be answered to what: the orders of commands that go wrong in participants, each a conversation of its own.

repeat           execute, a copy, the next attempt       one answer, one effect
overtaken        compensate, execute                     nothing, and the late one is not run
undone           execute, compensate, again, a copy      done, done, the same, what was answered first
refused          execute (refused), compensate           nothing to undo
asked            execute, verify                         what was done
never            verify, execute                         nothing, and the late one is not run
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from saga.conformance.findings import Claim, Finding, Rule
from saga.conformance.offers import Offer
from saga.conformance.player import Heard, Player, Sent, Talk
from saga.conformance.samples import Samples
from saga.engine.state import Action

ATTEMPTS = 5  # as a saga makes them by default, for a service that says `failed` at first
PAUSE = 0.5  # seconds before the second attempt; each further pause is twice as long
NO_ANSWER = "no answer"
NOT_SETTLED = "no sample of its command was done or refused"
EXECUTE, COMPENSATE, VERIFY = Action.EXECUTE, Action.COMPENSATE, Action.VERIFY

_CLAIMS = {
    "answered": (EXECUTE, "a command is answered done, or with a refusal that it names", Rule.ANSWER),
    "repeat": (EXECUTE, "a copy of it, and its next attempt, get the stored answer again", Rule.INBOX),
    "early-compensation": (
        COMPENSATE,
        "a compensation that overtakes its command is answered nothing, and again so",
        Rule.TOMBSTONE,
    ),
    "tombstone": (EXECUTE, "the command, when it comes after that, is answered nothing and not run", Rule.CLOSED),
    "compensation": (COMPENSATE, "a compensation of what was done is answered done", Rule.UNDONE),
    "compensation-repeat": (COMPENSATE, "a copy of it, and its next attempt, get the stored answer again", Rule.INBOX),
    "late-copy": (EXECUTE, "a copy of the command, after its compensation, gets the stored answer again", Rule.LATE_COPY),
    "verify": (VERIFY, "a verify of what was done says done, with the value of the answer", Rule.FOUND),
    "verify-repeat": (VERIFY, "a copy of it, and its next attempt, get the stored answer again", Rule.INBOX),
    "early-verify": (VERIFY, "a verify of what never was is answered nothing, and again so", Rule.NEVER),
    "verify-tombstone": (EXECUTE, "the command, when it comes after that, is answered nothing and not run", Rule.NEVER),
    "refused": (COMPENSATE, "a compensation, or a verify, of what was refused is answered nothing", Rule.REFUSED),
    "once": (EXECUTE, "a repeat of {type} tells no event a second time under a new id", Rule.ONCE),
}


class Opened(NamedTuple):
    """A conversation whose execute was answered."""

    talk: Talk
    payload: Any
    sent: Sent
    answer: Heard | None

    @property
    def outcome(self) -> str:
        return self.answer.outcome if self.answer is not None else NO_ANSWER


class Behaviour:
    """The conversations about one offer."""

    def __init__(self, player: Player, offer: Offer, samples: Samples) -> None:
        self._player = player
        self.offer = offer
        self._samples = samples
        self._turn = 0
        self._repeated: list[Opened] = []
        self.single: list[Opened] = []  # executes that were sent once: what they told is what one effect tells
        self.settles = False  # a sample was done or refused, and not only failed

    async def all(self) -> list[Finding]:
        """Every conversation, side by side."""
        ran = await asyncio.gather(self.repeat(), self.overtaken(), self.undone(), self.asked(), self.never())
        return [finding for findings in ran for finding in findings]

    # --- the conversations ------------------------------------------------------------------------------------------------------------

    async def answered(self) -> tuple[Finding, Opened]:
        """Whether it is there at all: the first command of all."""
        claim = self._claim("answered")
        opened = await self.open(number=0, away=True)
        self.settles = opened.outcome in ("done", "refused")
        if opened.answer is None:
            return claim.fails("an answer", self._silence()), opened
        if self.settles:
            return claim.holds(str(opened.answer)), opened
        if opened.outcome == "failed":
            return claim.skipped(self._undone_because(opened)), opened
        return self.unlike(claim, "done or refused", opened.answer), opened

    async def repeat(self) -> list[Finding]:
        """Each sample once more, in a copy and in the next attempt; and what a refusal means for a compensation."""
        claim = self._claim("repeat")
        if not self.settles:
            return [claim.skipped(NOT_SETTLED)]
        findings: list[Finding] = []
        refusals: list[Finding] = []
        for _ in range(self._samples.count(self.offer.execute)):
            opened = await self.open()
            if opened.outcome not in ("done", "refused"):
                findings.append(claim.skipped(f"the command was answered {opened.outcome}"))
                continue
            findings.append(await self._same(claim, opened.talk, opened.sent, opened.payload, opened.answer))
            self._repeated.append(opened)
            if opened.outcome == "refused":
                refusals += await self._after_refusal(opened)
        return [_worst(findings), *([_worst(refusals)] if refusals else [])]

    async def overtaken(self) -> list[Finding]:
        if self.offer.compensate is None:
            return []
        return await self._closing(COMPENSATE, self._claim("early-compensation"), self._claim("tombstone"))

    async def never(self) -> list[Finding]:
        if self.offer.verify is None:
            return []
        return await self._closing(VERIFY, self._claim("early-verify"), self._claim("verify-tombstone"))

    async def undone(self) -> list[Finding]:
        if self.offer.compensate is None:
            return []
        undo, again, copy = claims = [self._claim(check) for check in ("compensation", "compensation-repeat", "late-copy")]
        opened = await self._done()
        if opened is None or opened.outcome != "done":
            return [claim.skipped(self._undone_because(opened)) for claim in claims]
        talk, payload = opened.talk, self.payload(COMPENSATE, opened.talk, opened.payload)
        sent, answer = await self.settled(talk, COMPENSATE, payload)
        if answer is None or answer.outcome != "done":
            refused = answer is not None and answer.outcome == "refused" and answer.type in sent.types["refused"]
            first = undo.skipped(f"it was refused: {answer}") if refused else self.unlike(undo, "done", answer)
            return [first, *(claim.skipped("it was not compensated") for claim in claims[1:])]
        repeated = await self._same(again, talk, sent, payload, answer)
        return [undo.holds(), repeated, await self._same(copy, talk, opened.sent, opened.payload, opened.answer, attempts=(3,))]

    async def asked(self) -> list[Finding]:
        if self.offer.verify is None:
            return []
        found, again = claims = [self._claim(check) for check in ("verify", "verify-repeat")]
        opened = await self._done()
        if opened is None or opened.answer is None or opened.outcome != "done":
            return [claim.skipped(self._undone_because(opened)) for claim in claims]
        payload = self.payload(VERIFY, opened.talk, opened.payload)
        sent, answer = await self.settled(opened.talk, VERIFY, payload)
        if answer is None or answer.outcome != "done":
            return [self.unlike(found, "done", answer), again.skipped("it did not find what was done")]
        if answer.data != opened.answer.data:
            first = found.fails(f"the value of {opened.answer.record.place}", f"another value, in {answer}", answer.record.place)
        else:
            first = found.holds()
        return [first, await self._same(again, opened.talk, sent, payload, answer)]

    def once(self) -> Finding:
        """As far as it can be seen from outside: what was asked three times told as many events as what was asked once."""
        claim = self._claim("once")
        usual: dict[str, Counter[str]] = {}
        for opened in self.single:
            told = Counter(opened.talk.events().values())
            usual[opened.outcome] = usual.get(opened.outcome, Counter()) | told
        for opened in self._repeated:
            if opened.outcome not in usual:
                continue
            told = Counter(opened.talk.events().values())
            if more := told - usual[opened.outcome]:
                type, count = next(iter(more.items()))
                expected = f"{told[type] - count} × {type}, as for a command that came once"
                return claim.fails(expected, f"{told[type]} ×, each with an id of its own", f"key {opened.talk.key}")
        if not any(usual.values()):
            return claim.skipped("it tells no events beside its answers, so an effect cannot be seen from here")
        return claim.holds()

    # --- their pieces -----------------------------------------------------------------------------------------------------------------

    async def open(self, *, number: int | None = None, away: bool = False) -> Opened:
        """A new conversation (see `Player.talk`), with an execute of the next sample."""
        talk = self._player.talk(number=number, away=away)
        payload = self.next_payload(talk)
        sent, answer = await self.settled(talk, EXECUTE, payload)
        return Opened(talk, payload, sent, answer)

    def next_payload(self, talk: Talk) -> Any:
        """The payload of an execute in a new conversation: samples take turns."""
        talk.turn, self._turn = self._turn, self._turn + 1
        return self._samples.payload(self.offer.execute, talk.key, talk.turn)

    async def _done(self) -> Opened | None:
        """One whose execute was done, if there is a sample for that; else the last that was tried."""
        opened = None
        for _ in range(self._samples.count(self.offer.execute) if self.settles else 0):
            opened = await self.open()
            if opened.outcome == "done":
                break
        return opened

    async def settled(self, talk: Talk, action: Action, payload: Any) -> tuple[Sent, Heard | None]:
        """Ask until it is settled: `failed` is followed by the next attempt, as a saga would."""
        command = self.offer.commands[action]
        for attempt in range(1, ATTEMPTS + 1):
            sent, answer = await self._player.ask(talk, command, talk.sent(command, payload, self.offer.step, action, attempt))
            if answer is None or answer.outcome != "failed":
                break
            if attempt < ATTEMPTS:
                await asyncio.sleep(PAUSE * 2 ** (attempt - 1))
        return sent, answer

    async def _same(
        self, claim: Claim, talk: Talk, sent: Sent, payload: Any, first: Heard | None, attempts: Sequence[int] = ()
    ) -> Finding:
        """Send a command again, as a copy and as its next attempt; each time the answer must be the first one."""
        assert first is not None, "only what was answered is asked again"
        for attempt in attempts or (sent.attempt, sent.attempt + 1):
            event = talk.sent(sent.command, payload, self.offer.step, sent.action, attempt)
            _, answer = await self._player.ask(talk, sent.command, event)
            if answer is None:
                return claim.fails(f"{first} once more", self._silence())
            if answer.bytes != first.bytes:
                came = f"to {'a copy' if attempt == sent.attempt else f'attempt {attempt}'}: {_differs(first, answer)}"
                return claim.fails(f"the bytes of {first.record.place}: {first}", came, answer.record.place)
        return claim.holds()

    async def _closing(self, action: Action, early: Claim, late: Claim) -> list[Finding]:
        """What closes a command that never came; then the command."""
        talk = self._player.talk()
        execute = self.next_payload(talk)
        payload = self.payload(action, talk, execute)
        sent, answer = await self.settled(talk, action, payload)
        if answer is None or answer.outcome != "nothing":
            return [self.unlike(early, "nothing", answer), late.skipped("it was not closed")]
        first = await self._same(early, talk, sent, payload, answer)
        command = self.offer.execute
        _, run = await self._player.ask(talk, command, talk.sent(command, execute, self.offer.step))
        return [first, late.holds() if run is not None and run.outcome == "nothing" else self.unlike(late, "nothing", run)]

    async def _after_refusal(self, opened: Opened) -> list[Finding]:
        action = next((action for action in (COMPENSATE, VERIFY) if action in self.offer.commands), None)
        if action is None:
            return []
        claim = self._claim("refused")
        _, answer = await self.settled(opened.talk, action, self.payload(action, opened.talk, opened.payload))
        return [claim.holds() if answer is not None and answer.outcome == "nothing" else self.unlike(claim, "nothing", answer)]

    def payload(self, action: Action, talk: Talk, about: Any) -> Any:
        """The payload of a compensate or verify about an execute with the payload `about`."""
        return self._samples.payload(self.offer.commands[action], talk.key, talk.turn, about)

    def _claim(self, check: str) -> Claim:
        action, says, rule = _CLAIMS[check]
        about = self.offer.commands.get(action, self.offer.execute).__type__
        return Claim(check, about, says.replace("{type}", about), rule)

    def _silence(self) -> str:
        return f"{NO_ANSWER} within {self._player.patience:g} s"

    def unlike(self, claim: Claim, expected: str, answer: Heard | None) -> Finding:
        """That another answer came than was expected."""
        if answer is None:
            return claim.fails(expected, self._silence())
        reason = _reason(answer)
        return claim.fails(expected, f"{answer}{f': {reason}' if reason else ''}", answer.record.place)

    def _undone_because(self, opened: Opened | None) -> str:
        if opened is None or opened.answer is None:
            return NOT_SETTLED if opened is None else f"its command was answered {opened.outcome}"
        hint = "; give one that is done: --samples FILE"
        if opened.outcome == "failed":
            return f"{ATTEMPTS} attempts failed ({_reason(opened.answer)}){hint}"
        return f"every sample was {opened.outcome} ({opened.answer.type}){hint}"


def _worst(findings: Sequence[Finding]) -> Finding:
    """Of findings about one claim the one to tell: what fails, else what holds."""
    order = {"failed": 0, "ok": 1, "skipped": 2}
    return min(findings, key=lambda finding: order[finding.result])


def _reason(answer: Heard) -> str:
    """Why a command failed or is expired, as its answer says."""
    return str(answer.data.get("reason", "")) if answer.outcome in ("failed", "expired") and isinstance(answer.data, dict) else ""


def _differs(first: Heard, again: Heard) -> str:
    """In what an answer is not the one that it repeats: the first thing."""
    if again.record.value != first.record.value or str(again) != str(first):
        value = (again.record.value or b"")[:200].decode(errors="replace")
        return f"{again}, {value}"
    for name in sorted({*first.fields, *again.fields}):
        if first.fields.get(name) != again.fields.get(name):
            return f"{name}: {again.fields.get(name, '(none)')}, before {first.fields.get(name, '(none)')}"
    return "another key, or the same headers in another number"

"""One instance, the services it talks to, and what is on its way between them.

A world is a value: what happens in it makes another one, and the first can go on differently. So two runs that begin alike share their
beginning, and a run that comes to where another one was before need not be played again: `key` says what matters for the future, and
leaves out what does not (times, the number of decisions).

Services keep the protocol: an inbox row for each command with its answer, a tombstone where a compensation or a question comes first, a
failure leaves nothing. Time passes only when nothing else can happen; what is in the topics is decided before timers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from saga.engine.decision import Input, Kind, Send
from saga.engine.definition import Saga
from saga.engine.messages import Message
from saga.engine.state import Action, Instance, step_and_action
from saga.ops.look import Moment
from saga.testing.decisions import BEGAN, reply_to, retry_of, start_of, take, timer_of
from saga.testing.exploration.judge import Broken, Judge
from saga.testing.exploration.samples import Samples

LATENCY = 10  # ms that a message is on its way: enough to tell moments apart in a story, and less than any time-out
OPERATOR = 60_000  # ms until an operator comes


@dataclass(frozen=True, slots=True)
class Mail:
    """One message on its way: a command to its service, or an input to the orchestrator."""

    given: Send | Input
    words: str
    hit: bool = False  # by a fault; no second one hits it
    slow: bool = False  # it comes after all others
    fault: int = -1  # which of the world's faults holds it back
    offered: frozenset[Hashable] = frozenset()  # where its step stood when it could have come and did not


class Row(NamedTuple):
    """What a service's inbox says of a command."""

    outcome: str
    message: Message | None = None


class Past(NamedTuple):
    """How a world came to be; the last decision first."""

    moment: Moment
    before: Past | None


class Setting(NamedTuple):
    """What is the same in all worlds of one exploration."""

    saga: Saga[Any, Any]
    samples: Samples
    judge: Judge


class World:
    """Changed only by what makes a copy first; see `then`."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.state: Instance | None = None
        self.now = BEGAN
        start = setting.samples.start
        self.mail: tuple[Mail, ...] = (Mail(start_of(start), f"the start ({type(start).__name__})"),)
        self.held: tuple[Mail, ...] = ()
        self.rows: dict[tuple[str, str], Row] = {}  # by service and command id
        self.effects: dict[str, int] = {}  # done minus undone, by execute command id
        self.undone: frozenset[str] = frozenset()  # execute command ids whose undoing was answered
        self.ids: dict[tuple[str, str], tuple[str, int]] = {}  # the last command id and attempt, by step and action
        self.broken: dict[tuple[str, str], str] = {}  # what never works for a step and action until it is healed
        self.retries = 0
        self.outcome = ""
        self.faults: tuple[str, ...] = ()
        self.rare = 0  # how many of them are the orchestrator's
        self.sent: tuple[Mail, ...] = ()  # what the last decision sent, if nothing else happened since
        self.past: Past | None = None

    def copy(self) -> World:
        other = object.__new__(World)
        other.__dict__.update(self.__dict__)
        return other

    # --- what happens; each changes this world, which is therefore a copy of the one before ---------------------------------------------

    def deliver(self, mail: Mail, verdict: type[Message] | str | None = None) -> None:
        """A message arrives. `verdict`, of a command: the refusal that it meets, or "failed"."""
        self.sent = ()
        if isinstance(mail.given, Input):
            self.decide(mail.given)
            return
        try:
            self._hand_over(mail, mail.given, verdict)
        except Broken as broken:
            broken.world = broken.world or self
            raise

    def _hand_over(self, mail: Mail, send: Send, verdict: type[Message] | str | None) -> None:
        place = step_and_action(send.command)
        how = self.broken.get(place, "")
        if how == "lost":
            return
        answer = self._serve(send, "failed" if how == "fails" else verdict)
        if how != "mute":
            self.mail = (*self.mail, Mail(answer, f"the answer to {mail.words}"))

    def decide(self, given: Input, *, wait: int = LATENCY) -> None:
        """The orchestrator takes an input. Raises Broken if what it decides breaks a rule."""
        self.now += wait
        moment = take(self.setting.saga, self.setting.samples.key, self.state, given, self.now)
        self.past = Past(moment, self.past)
        self.state = moment.after
        sends = [output for output in moment.decision.outputs if isinstance(output, Send)]
        try:
            self.setting.judge.decided(self, moment)
            for send in sends:
                self.setting.judge.sent(self, send)
        except Broken as broken:
            broken.world = broken.world or self
            raise
        self.sent = tuple(Mail(send, self._words(send)) for send in sends)
        self.mail += self.sent

    def fire(self) -> bool:
        """Time passes until the next timer; False if there is none."""
        timer = timer_of(self.state) if self.state is not None else None
        if timer is None:
            return False
        self.now = max(self.now, timer[0])
        self.decide(timer[1], wait=0)
        return True

    def operate(self) -> None:
        """An operator sees to it that everything works again, and retries."""
        assert self.state is not None
        self.broken = {}
        self.retries += 1
        self.decide(retry_of(self.state, self.retries), wait=OPERATOR)

    def deadline(self) -> None:
        """The saga's deadline passes now: as if all that happened so far had taken that long."""
        assert self.state is not None
        self.state = self.state.copy()
        self.state.deadline = self.now + LATENCY
        self.decide(Input(Kind.TIMER, data={"step": "", "due": self.state.deadline}))

    def restart(self) -> None:
        """The orchestrator crashes after its last decision. Another one reads the state back and sends again."""
        assert self.state is not None
        self.state = Instance.from_json(orjson.loads(orjson.dumps(self.state.to_json())))
        self.mail += tuple(replace(mail, hit=True) for mail in self.sent)
        self.sent = ()

    # --- the services -----------------------------------------------------------------------------------------------------------------

    def _serve(self, send: Send, verdict: type[Message] | str | None) -> Input:
        place = (send.service, send.command)
        if place not in self.rows:
            if verdict == "failed":
                return reply_to(send, "failed", id=f"{send.command}:{send.attempt}:failed", reason="out of order")
            row = self._answer(send, verdict)  # first: it may leave a row of its own
            self.rows = {**self.rows, place: row}
        row = self.rows[place]
        return reply_to(send, row.outcome, row.message)

    def _answer(self, send: Send, verdict: Any) -> Row:
        if verdict is not None:
            return Row("refused", self.setting.samples.answer(send, verdict))
        command = self.setting.samples.commands[send.type]
        if send.action == Action.EXECUTE:
            self.setting.judge.does(self, send)
            self._count(send.command, 1)
            return Row("done", self.setting.samples.answer(send, command.__reply__))
        row = self.rows.get((send.service, send.subject), Row("nothing"))
        self.rows = {**self.rows, (send.service, send.subject): row}  # where there was none, there will never be another
        if send.action == Action.COMPENSATE:
            self.undone |= {send.subject}
        if row.outcome != "done":
            return Row("nothing")
        if send.action == Action.VERIFY:
            return row
        self.setting.judge.undoes(self, send)
        self._count(send.subject, -1)
        return Row("done", self.setting.samples.answer(send, command.__reply__))

    def _count(self, command: str, change: int) -> None:
        self.effects = {**self.effects, command: self.effects.get(command, 0) + change}

    # --- what is so -----------------------------------------------------------------------------------------------------------------------

    def effect(self, step: str) -> int:
        """Done minus undone, over all rounds of a step."""
        return sum(net for command, net in self.effects.items() if step_and_action(command)[0] == step)

    def stage(self, mail: Mail) -> Hashable:
        """Where the step stands that this message is about, as far as a late arrival matters."""
        if self.state is None:
            return None
        step = self.state.steps.get(step_of(mail))
        parked = self.state.parked.reason if self.state.parked else ""
        return (self.state.phase, parked, step and (step.status, step.waits, step.succeeded))

    def moments(self) -> list[Moment]:
        """Every decision, the first one first."""
        return list(self._backwards())[::-1]

    def _backwards(self) -> Iterator[Moment]:
        past = self.past
        while past is not None:
            yield past.moment
            past = past.before

    def _words(self, send: Send) -> str:
        step, action = step_and_action(send.command)
        doing = {Action.COMPENSATE: f"compensating {step}", Action.VERIFY: f"the question about {step}"}.get(Action(action), step)
        again = f", attempt {send.attempt}" if send.attempt > 1 else ""
        return f"{doing} ({self.setting.samples.commands[send.type].__name__}{again})"

    def key(self, *, coarse: bool = False) -> int:
        """What the future depends on, as a hash. `coarse`: not on the number of an attempt, beyond the second."""
        return hash((self._state_key(coarse), tuple(self._mail_key(coarse)), *self._service_key(), self.retries, self.outcome))

    def _state_key(self, coarse: bool) -> Hashable:
        state = self.state
        if state is None:
            return None
        steps = []
        for name, step in state.steps.items():
            attempt = min(step.attempt, 2) if coarse else step.attempt
            steps.append((name, step._replace(due=None, decided=0, sent=None, reason="", attempt=attempt)))
        timers = tuple(
            sorted((name for name, step in state.steps.items() if step.due is not None), key=lambda n: state.steps[n].due or 0)
        )
        cause = state.cause and (state.cause.why, state.cause.step)
        parked = state.parked and (state.parked.reason, state.parked.step, state.parked.holds)
        data = orjson.dumps(state.data)
        return (tuple(steps), timers, state.phase, state.deadline_over, cause, parked, len(state.kept), data)

    def _mail_key(self, coarse: bool) -> Iterator[Hashable]:
        seen = self.state.seen if self.state is not None else ()
        for mail in (*self.mail, None, *self.held):
            if mail is None:
                yield None
            elif isinstance(mail.given, Send):
                yield (mail.given.command, 0 if coarse else mail.given.attempt, mail.hit, mail.slow, mail.offered)
            else:
                attempt = mail.given.attributes.get("sagaattempt")
                yield (mail.given.id, not coarse and attempt, mail.given.identity in seen, mail.hit, mail.slow, mail.offered)

    def _service_key(self) -> Iterator[Hashable]:
        yield frozenset((*place, row.outcome, row.message and row.message.__type__) for place, row in self.rows.items())
        yield frozenset(self.effects.items())
        yield self.undone
        yield frozenset(self.broken.items())


def step_of(mail: Mail) -> str:
    """The step that a message is about; "" for the start."""
    given = mail.given
    command = given.command if isinstance(given, Send) else given.attributes.get("sagacommand", "")
    return step_and_action(command)[0]

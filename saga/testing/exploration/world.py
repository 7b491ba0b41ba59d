"""One instance, and what is on its way from it and to it.

A world is a value: what happens in it makes another one, and the first can go on differently. So two runs that begin alike share their
beginning, and a run that comes to where another one was before need not be played again: `key` says what matters for the future, and
leaves out what does not (times, the number of decisions).

Time passes only when nothing else can happen: what is in the topics is decided before timers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from saga.engine.actions import CANCEL, RETRY
from saga.engine.decision import Input, Kind, Request, Send
from saga.engine.definition import Saga
from saga.engine.kinds import Wait
from saga.engine.messages import RELEASE
from saga.engine.state import Instance, Status, Waits, base_name, step_and_action
from saga.ops.look import Moment
from saga.testing.decisions import BEGAN, operator, start_of, take, timer_of
from saga.testing.exploration.judge import Broken, Judge
from saga.testing.exploration.mail import Mail, awaited, command
from saga.testing.exploration.samples import Samples
from saga.testing.exploration.services import Row, Verdict, serve

LATENCY = 10  # ms that a message is on its way: enough to tell moments apart in a story, and less than any time-out
OPERATOR = 60_000  # ms until an operator comes


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
    """Changed only by what makes a copy first (see `moves`)."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.state: Instance | None = None
        self.now = BEGAN
        start = setting.samples.start
        self.mail: tuple[Mail, ...] = (Mail(start_of(start), f"the start ({type(start).__name__})"),)
        self.held: tuple[Mail, ...] = ()
        self.rows: dict[tuple[str, str], Row] = {}  # the inboxes, by service and command id
        self.effects: dict[str, int] = {}  # done minus undone, by execute command id
        self.undone: frozenset[str] = frozenset()  # execute command ids whose undoing was answered
        self.ids: dict[tuple[str, str], tuple[str, int]] = {}  # the last command id and attempt, by step and action
        self.told: frozenset[str] = frozenset()  # steps that wait, for which something was sent
        self.broken: dict[tuple[str, str], str] = {}  # what never works for a step and action until it is healed
        self.retries = 0
        self.outcome = ""
        self.faults: tuple[str, ...] = ()
        self.rare = 0  # how many of them are not a service's
        self.sent: tuple[Mail, ...] = ()  # what the last decision sent, if nothing else happened since
        self.past: Past | None = None

    def copy(self) -> World:
        other = object.__new__(World)
        other.__dict__.update(self.__dict__)
        return other

    # --- what happens; each changes this world, which is therefore a copy of the one before ---------------------------------------

    def deliver(self, mail: Mail, verdict: Verdict = None) -> None:
        """A message arrives. `verdict`, of a command: what it meets. Raises Broken if what follows breaks a rule."""
        self.sent = ()
        if isinstance(mail.given, Input):
            self.decide(mail.given)
            return
        how = self.broken.get((mail.step, mail.action), "")
        if how == "lost":
            return
        try:
            answer = serve(self, mail, "failed" if how == "fails" else verdict)
        except Broken as broken:
            broken.world = broken.world or self
            raise
        if answer is not None and how != "mute":
            self.mail = (*self.mail, Mail(answer, f"the answer to {mail.words}", mail.step, mail.action))

    def decide(self, given: Input, *, wait: int = LATENCY) -> None:
        """The orchestrator takes an input. Raises Broken if what it decides breaks a rule."""
        self.now += wait
        moment = take(self.setting.saga, self.setting.samples.key, self.state, given, self.now)
        self.past = Past(moment, self.past)
        self.state = moment.after
        leaves = [
            output
            for output in moment.decision.outputs
            if isinstance(output, Send) or (isinstance(output, Request) and output.type != RELEASE)
        ]
        self.sent = tuple(command(output, self.setting.samples) for output in leaves)
        try:
            self.setting.judge.decided(self, moment)
            for mail in self.sent:
                self.setting.judge.sent(self, mail)
        except Broken as broken:
            broken.world = broken.world or self
            raise
        self.mail += self.sent
        self._tell_waits(moment)

    def _tell_waits(self, moment: Moment) -> None:
        """What a step has just begun to wait for will come."""
        for name in moment.decision.patch.get("steps", ()):
            step = moment.after.steps[name] if moment.after is not None else None
            if step is not None and step.status is Status.WAITING and step.waits is Waits.EVENT and name not in self.told:
                wait = self.setting.saga.steps[name]
                if isinstance(wait, Wait):
                    self.mail = (*self.mail, self.telling(wait))

    def telling(self, wait: Wait[Any, Any], variant: int = 0) -> Mail:
        """What a step waits for is sent."""
        self.told |= {wait.name}
        samples = self.setting.samples
        return awaited(wait, samples.events(wait.name)[variant], self.setting.saga.name, samples.key)

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
        self.decide(operator(self.state, RETRY, f"retry-{self.retries}"), wait=OPERATOR)

    def cancel(self) -> None:
        """An operator wants it undone."""
        assert self.state is not None
        self.decide(operator(self.state, CANCEL, "cancel"))

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

    # --- what is so ---------------------------------------------------------------------------------------------------------------

    def effect(self, step: str) -> int:
        """Done minus undone, over all rounds and all iterations of a step; of a single iteration if it is named."""
        names = ((step_and_action(command)[0], net) for command, net in self.effects.items())
        return sum(net for name, net in names if step in (name, base_name(name)))

    def stage(self, mail: Mail) -> Hashable:
        """Where the step stands that this message is about, as far as a late arrival matters."""
        if self.state is None:
            return None
        step = self.state.steps.get(mail.step)
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

    # --- what matters of it -------------------------------------------------------------------------------------------------------

    def key(self, *, coarse: bool = False) -> int:
        """What the future depends on, as a hash. `coarse`: not on the number of an attempt, beyond the second."""
        seen = self.state.seen if self.state is not None else []
        mail = tuple(mail.key(seen, coarse) for mail in self.mail)
        held = tuple(mail.key(seen, coarse) for mail in self.held)
        return hash((self._state_key(coarse), mail, held, *self._service_key(), self.told, self.retries, self.outcome))

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
        flags = (state.phase, state.deadline_over, state.cancelled, len(state.kept), len(state.early))
        return (tuple(steps), timers, flags, cause, parked, orjson.dumps(state.data))

    def _service_key(self) -> Iterator[Hashable]:
        yield frozenset(
            (*place, row.outcome, row.type, id(row.message)) for place, row in self.rows.items()
        )  # a sample is made once
        yield frozenset(self.effects.items())
        yield self.undone
        yield frozenset(self.broken.items())

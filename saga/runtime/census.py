"""How many instances are where: the gauges of live and parked instances, kept up to date by each decision of a partition."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from saga.engine.book import Book
from saga.engine.decision import Announce, DeadLetter, Decision, Forward, Send
from saga.engine.kinds import Child
from saga.engine.messages import CHILD_COMPLETED
from saga.engine.replies import Outcome
from saga.engine.state import ACTION_OF, ENDED, Action, Instance, Phase, Status, StepState, Waits, base_name, step_and_action
from saga.logs import about
from saga.metrics import Metrics
from saga.raised import raised_at
from saga.runtime.states import Slot

logger = logging.getLogger("saga.instances")

MOST_OF_A_REASON = 300  # characters of it in a line; its dead letter has more
OUTCOMES = frozenset(map(str, Outcome))  # notes of replies that settled something


@dataclass(frozen=True, slots=True)
class Seat:
    """What one live instance counts as; times are of its partition, in ms."""

    saga: str
    phase: str
    parked: str  # the reason, "" if it is not
    started: int
    waiting: tuple[tuple[str, int], ...]  # steps with a command out: (step, since when)

    @property
    def counts_as(self) -> tuple[str, str, str]:
        return self.saga, self.phase, self.parked


class Census:
    """`book`: the definitions, which say what steps wait for another instance: that may well wait for a person, for days."""

    def __init__(self, metrics: Metrics, book: Book | None = None) -> None:
        sagas = book.all() if book is not None else ()
        self._children = {(saga.name, step.name) for saga in sagas for step in saga.steps.values() if isinstance(step, Child)}
        self._metrics = metrics
        self._seats: dict[Slot, Seat] = {}

    def see(self, slot: Slot, state: Instance) -> None:
        before, now = self._seats.get(slot), _seat(state) if state.live else None
        if now is None:
            self._seats.pop(slot, None)
        else:
            self._seats[slot] = now
        if before is not None and now is not None and before.counts_as == now.counts_as:
            return  # most decisions: a step moved, the instance counts as before
        if before is not None:
            self._move(before, -1)
        if now is not None:
            self._move(now, 1)

    def leave(self) -> None:
        """This process no longer owns the partition: its instances are counted elsewhere."""
        for seat in self._seats.values():
            self._move(seat, -1)
        self._seats = {}

    def ages(self, now: int) -> Iterator[tuple[str, str, float]]:
        """How long each live instance lives, as (saga, "", seconds), and each of its steps waits, as (saga, step, seconds)."""
        for seat in self._seats.values():
            yield seat.saga, "", (now - seat.started) / 1000
            for step, since in seat.waiting:
                if (seat.saga, step) in self._children:
                    continue  # its child's own commands are counted there
                yield seat.saga, step, (now - since) / 1000

    def _move(self, seat: Seat, by: int) -> None:
        saga = self._metrics.label(seat.saga)
        self._metrics.of(self._metrics.live, saga, seat.phase).inc(by)
        if seat.parked:
            self._metrics.of(self._metrics.parked, saga, seat.parked).inc(by)

    def count(self, decision: Decision, state: Instance | None, now: int) -> None:
        """Count what one decision came to; `state` is its result."""
        metrics, of = self._metrics, self._metrics.of
        if state is not None and ("parked" in decision.patch or "phase" in decision.patch):
            _log(decision, state)
        for output in decision.outputs:
            if isinstance(output, Send) and state is not None:
                step, action = step_and_action(output.command)
                of(metrics.attempts, metrics.label(state.saga), metrics.label(base_name(step)), action, "sent").inc()
            elif isinstance(output, DeadLetter):
                of(metrics.deadletter, metrics.label(decision.input.topic), output.reason).inc()
                fields = about(state.saga, state.key, traceparent=state.trace) if state else about(key=decision.key)
                where, why = decision.input.origin or decision.input.id, f"{output.reason}: {output.detail}".rstrip(": ")
                logger.warning("%s is a dead letter: %s; `saga deadletters` has it", where, why[:MOST_OF_A_REASON], extra=fields)
            elif isinstance(output, Forward):
                metrics.forwarded.inc()
        if decision.note in ("inputs", "forwarded", "deadletter"):
            return  # nothing of an instance's, or counted above
        if decision.note == "contradiction" or (decision.patch.get("parked") or {}).get("reason") == "contradiction":
            of(metrics.invariant_violations, "contradiction").inc()
        if decision.ignored:
            of(metrics.ignored, decision.note).inc()
            return
        if state is None:
            return
        saga = metrics.label(state.saga)
        # By the patch, not by `state`: that is what the whole batch left of the instance.
        if "id" in decision.patch and decision.patch["phase"] != Phase.EARLY:
            of(metrics.started, saga).inc()
        if (phase := decision.patch.get("phase")) in ENDED:
            of(metrics.finished, saga, str(phase)).inc()
            of(metrics.duration, saga, str(phase)).observe((now - state.started) / 1000)
        elif "id" in decision.patch and any(
            isinstance(told, Announce) and told.type == CHILD_COMPLETED for told in decision.outputs
        ):
            of(metrics.finished, saga, str(Phase.COMPLETED)).inc()  # and it began anew
        answered, action = step_and_action(decision.input.attributes.get("sagacommand", ""))
        for name, step in decision.patch.get("steps", {}).items():
            settled = state.steps.get(name)  # of what the whole batch left: perhaps another run already
            if name == answered and settled is not None and settled.waits is Waits.NOTHING:
                of(metrics.step_duration, saga, metrics.label(base_name(name)), action).observe((now - settled.decided) / 1000)
            if step.get("waits") == "operator" and step.get("status") == "compensating":
                of(metrics.compensation_failed, saga, metrics.label(base_name(name))).inc()
        if decision.input.kind == "reply" and decision.note in OUTCOMES:  # one that was only kept may have any command id at all
            of(metrics.attempts, saga, metrics.label(base_name(answered)), action, decision.note).inc()
        elif decision.note == "timed-out":
            name = decision.input.data["step"]
            action = _timed_out(StepState.from_json(decision.patch.get("steps", {}).get(name, {})))
            of(metrics.attempts, saga, metrics.label(base_name(name)), action, "timed-out").inc()


def _timed_out(after: StepState) -> Action:
    """The action whose attempt got no answer. The patch has the step as it is then: between attempts, or at what comes next."""
    if after.status in ACTION_OF and after.waits is not Waits.REPLY:
        return ACTION_OF[after.status]
    # `ask_round` counts questions, but of a step that waits: what it does when it is late.
    asked = after.ask_round > 0 and after.status in (Status.UNKNOWN, Status.COMPENSATING)
    return Action.VERIFY if asked else Action.EXECUTE


def _log(decision: Decision, state: Instance) -> None:
    """Tell what an operator wants to read of an instance; its data, and what participants said, may be private and are not told.

    Of its own code's errors it is told what was raised and where: whoever wrote it reads this first. The traceback is in the journal.
    """
    phase, parked, which = decision.patch.get("phase"), decision.patch.get("parked"), f"{state.saga} {state.key}"
    if parked:
        fields = about(state.saga, state.key, parked["step"], state.trace)
        what = f"{parked['reason']}: {raised_at(parked['detail'])}" if parked["reason"] == "user-code" else parked["reason"]
        logger.warning("%s is parked: %s; `saga why %s` says more", which, what, state.key, extra=fields)
    elif "parked" in decision.patch and decision.seq > 1:
        logger.info("%s goes on", which, extra=about(state.saga, state.key, traceparent=state.trace))
    if phase and logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s is %s", which, phase, extra=about(state.saga, state.key, traceparent=state.trace))


def begin_series(metrics: Metrics, book: Book) -> None:
    """Have these series from the start, at 0: Prometheus sees no increase in a counter that is new with its first 1."""
    for saga in book.all():
        metrics.started.labels(saga.name)
        metrics.deadline.labels(saga.name).set(saga.deadline.total_seconds())
        for outcome in ENDED:
            metrics.finished.labels(saga.name, outcome)
        for step in saga.steps.values():
            if step.compensation_class is not None:
                metrics.compensation_failed.labels(saga.name, step.name)
    for id in ("contradiction", "journal", "unexpected"):
        metrics.invariant_violations.labels(id)


def _seat(state: Instance) -> Seat:
    waiting = (
        (base_name(name), step.decided)
        for name, step in state.steps.items()
        if step.status in ACTION_OF and step.waits in (Waits.REPLY, Waits.RETRY)
    )
    out = () if state.parked else tuple(waiting)  # what waits for an operator is parked, and nobody's answer is late
    return Seat(state.saga, str(state.phase), state.parked.reason if state.parked else "", state.started, out)

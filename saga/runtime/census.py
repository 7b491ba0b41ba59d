"""How many instances are where: the gauges of live and parked instances, kept up to date by each decision of a partition."""

from __future__ import annotations

from saga.engine.decision import DeadLetter, Decision, Forward, Send
from saga.engine.state import Instance
from saga.metrics import Metrics
from saga.runtime.fold import Slot

Seat = tuple[str, str, str]  # saga, phase, why it is parked


class Census:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seats: dict[Slot, Seat] = {}

    def see(self, slot: Slot, state: Instance) -> None:
        seat = (slot.saga, str(state.phase), state.parked.reason if state.parked else "") if state.live else None
        before = self._seats.get(slot)
        if seat == before:
            return
        if before is not None:
            self._move(before, -1)
        if seat is None:
            self._seats.pop(slot, None)
        else:
            self._seats[slot] = seat
            self._move(seat, 1)

    def leave(self) -> None:
        """This process no longer owns the partition: its instances are counted elsewhere."""
        for seat in self._seats.values():
            self._move(seat, -1)
        self._seats = {}

    def _move(self, seat: Seat, by: int) -> None:
        saga, phase, parked = seat
        self._metrics.live.labels(self._metrics.label(saga), phase).inc(by)
        if parked:
            self._metrics.parked.labels(self._metrics.label(saga), parked).inc(by)

    def count(self, decision: Decision, state: Instance | None, now: int) -> None:
        """Count what one decision came to; `state` is its result."""
        metrics = self._metrics
        for output in decision.outputs:
            if isinstance(output, DeadLetter):
                metrics.deadletter.labels(metrics.label(decision.input.topic), output.reason).inc()
            elif isinstance(output, Forward):
                metrics.forwarded.inc()
            elif isinstance(output, Send) and state is not None:
                step = output.command.split(":")[3]
                metrics.attempts.labels(metrics.label(state.saga), metrics.label(step), output.action, "sent").inc()
        if decision.note in ("inputs", "forwarded", "deadletter"):
            return  # nothing of an instance's, or counted above
        if decision.ignored:
            metrics.ignored.labels(decision.note).inc()
            if decision.note == "contradiction":
                metrics.invariant_violations.labels("I7").inc()
            return
        if state is None:
            return
        saga = metrics.label(state.saga)
        if decision.seq == 1:
            metrics.started.labels(saga).inc()
        if "phase" in decision.patch and not state.live:
            metrics.finished.labels(saga, str(state.phase)).inc()
            metrics.duration.labels(saga, str(state.phase)).observe((now - state.started) / 1000)
        for name, step in decision.patch.get("steps", {}).items():
            if step.get("waits") == "operator" and step.get("status") == "compensating":
                metrics.compensation_failed.labels(saga, metrics.label(name)).inc()
        if decision.input.kind == "reply":
            command = decision.input.attributes["sagacommand"].split(":")
            step_name, action = metrics.label(command[3]), command[4].split("~")[0]
            metrics.attempts.labels(saga, step_name, action, decision.note).inc()
        elif decision.note == "timed-out":
            status = decision.patch.get("steps", {}).get(decision.input.data["step"], {}).get("status", "executing")
            metrics.attempts.labels(saga, metrics.label(decision.input.data["step"]), status, "timed-out").inc()

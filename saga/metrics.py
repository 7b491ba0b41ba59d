"""What operators see, for Prometheus: the unit in the name, labels only from registered definitions (anything else is "other").

One `Metrics` object per process, passed down; nothing is global, so tests may have many. Only this module knows prometheus_client.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From 1 ms, one append on a good disk, to an hour, a saga that waits for people; about three buckets a decade.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


F = TypeVar("F", Counter, Gauge, Histogram)


class Metrics:
    """All series of a process. `names` are the label values that may appear; see `label`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._names = frozenset(names)
        self._series: dict[tuple[object, tuple[str, ...]], Counter | Gauge | Histogram] = {}
        r = self.registry
        self.started = Counter("saga_started", "Instances started", ["saga"], registry=r)
        self.finished = Counter("saga_finished", "Instances that ended", ["saga", "outcome"], registry=r)
        self.live = Gauge("saga_live", "Instances that have not ended", ["saga", "phase"], registry=r)
        self.parked = Gauge("saga_parked", "Instances that wait for an operator", ["saga", "reason"], registry=r)
        self.oldest_live = Gauge("saga_oldest_live_seconds", "Age of the oldest live instance", ["saga"], registry=r)
        self.deadline = Gauge("saga_deadline_seconds", "The deadline that the definition gives", ["saga"], registry=r)
        self.oldest_waiting = Gauge("saga_oldest_waiting_seconds", "Longest wait for a command", ["saga", "step"], registry=r)
        self.duration = Histogram("saga_duration_seconds", "From start to end", ["saga", "outcome"], registry=r, buckets=_SECONDS)
        labels = ["saga", "step", "action"]
        self.step_duration = Histogram("saga_step_duration_seconds", "From command to reply", labels, registry=r, buckets=_SECONDS)
        self.attempts = Counter("saga_step_attempts", "Attempts of commands", ["saga", "step", "action", "result"], registry=r)
        self.compensation_failed = Counter(
            "saga_compensation_failed", "Compensations that need an operator", ["saga", "step"], registry=r
        )
        self.ignored = Counter("saga_ignored", "Inputs that changed nothing", ["reason"], registry=r)
        self.deadletter = Counter("saga_deadletter", "Inputs set aside", ["topic", "reason"], registry=r)
        self.forwarded = Counter("saga_forwarded", "Inputs forwarded to their home partition", registry=r)
        self.append = Histogram("saga_journal_append_seconds", "One append to the journal", registry=r, buckets=_SECONDS)
        self.commit_inputs = Histogram("saga_journal_commit_inputs", "Inputs decided by one append", registry=r, buckets=_COUNTS)
        self.claims = Counter("saga_claims", "Claims of journal partitions", ["reason"], registry=r)
        self.ownership_lost = Counter("saga_ownership_lost", "Times that a batch did not stand where it had to", registry=r)
        self.snapshot_age = Gauge("saga_snapshot_age_seconds", "Age of the oldest snapshot with decisions after it", registry=r)
        self.restore = Histogram("saga_restore_seconds", "From assigned to running", registry=r, buckets=_SECONDS)
        self.restore_remaining = Gauge("saga_restore_remaining_records", "Journal records still to be read back", registry=r)
        self.phase = Gauge("saga_partition_phase", "1 for the phase a partition is in", ["partition", "phase"], registry=r)
        self.input_lag = Gauge("saga_input_lag_records", "Inputs not yet decided", ["topic", "partition"], registry=r)
        self.input_lag_seconds = Gauge(
            "saga_input_lag_seconds", "Age of the oldest input that should be decided by now", registry=r
        )
        self.timer_lag = Gauge("saga_timer_lag_seconds", "How late timers are, the latest of the last moments", registry=r)
        self.invariant_violations = Counter("saga_invariant_violations", "Contradictions that no rule allows", ["id"], registry=r)

        ProcessCollector(registry=r)

    def label(self, name: str) -> str:
        """A label value that came from outside: itself if a definition names it, else "other", so the number of series is bounded."""
        return name if name in self._names else "other"

    def of(self, family: F, *values: str) -> F:
        """The series of a family with these label values; prometheus_client itself takes a lock to find it, each time."""
        series = self._series.get((family, values))
        if series is None:
            series = self._series[family, values] = family.labels(*values)
        return series  # type: ignore[return-value]

    def text(self) -> bytes:
        return generate_latest(self.registry)


class ParticipantMetrics:
    """All series of a process that runs participants, and the `Meter` of each. `names` as above."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.registry = r = CollectorRegistry()
        self._names = frozenset(names)
        labels = ["service", "command", "result"]
        self.commands = Counter("participant_commands", "Commands answered", labels, registry=r)
        self.seconds = Histogram(
            "participant_command_seconds", "From a command read to its answer acknowledged", registry=r, buckets=_SECONDS
        )
        self.duplicates = Counter("participant_duplicates", "Commands that came again and got the stored answer", registry=r)
        self.outbox_age = Gauge("participant_outbox_age_seconds", "Age of the oldest record that waits to be published", registry=r)
        self.unsettled = Gauge("participant_unsettled_calls", "Calls begun long ago whose outcome was never learned", registry=r)
        self.deadletter = Counter("saga_deadletter", "Commands set aside", ["topic", "reason"], registry=r)
        ProcessCollector(registry=r)
        self._children: dict[tuple[str, str, str], Counter] = {}  # looked up once: `labels` costs more than the count itself
        self._waits: dict[str, float] = {}  # since when the oldest record of a service's outbox waits, by the monotonic clock
        self._unsettled: dict[str, int] = {}
        self.outbox_age.set_function(lambda: time.monotonic() - min(self._waits.values()) if self._waits else 0.0)

    def on_command(self, service: str, command: str, result: str, seconds: float) -> None:
        child = self._children.get((service, command, result))
        if child is None:
            child = self._children[service, command, result] = self.commands.labels(
                self._label(service), self._label(command), result
            )
        child.inc()
        self.seconds.observe(seconds)

    def on_duplicate(self, service: str) -> None:  # noqa: ARG002
        self.duplicates.inc()

    def on_dead_letter(self, service: str, reason: str) -> None:
        self.deadletter.labels(f"{self._label(service)}.commands", reason).inc()

    def on_outbox_age(self, service: str, seconds: float) -> None:
        """Told when it is looked at; while nothing can be published nobody looks, and it grows on."""
        if seconds:
            self._waits[service] = time.monotonic() - seconds
        else:
            self._waits.pop(service, None)

    def on_begun(self, service: str, old: int) -> None:
        self._unsettled[service] = old
        self.unsettled.set(sum(self._unsettled.values()))

    def _label(self, name: str) -> str:
        return name if name in self._names else "other"

    def text(self) -> bytes:
        return generate_latest(self.registry)

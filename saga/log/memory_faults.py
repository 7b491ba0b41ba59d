"""What can go wrong between a process and the in-memory log, drawn from a seeded random source.

All that a log can do to a writer is one of three outcomes: not written, written with the answer lost, written late (after writes
of others). Everything a real network and broker do to an append ends in one of them, so these are the whole fault model.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from random import Random


class Outcome(Enum):
    """What becomes of one append or publish."""

    OK = "ok"
    LOST = "lost"  # not written (of a publish: only some first part)
    ANSWER_LOST = "answer lost"  # written, but the writer does not learn it
    LATE = "late"  # the writer gives up; it lands afterwards
    TWICE = "twice"  # written and acknowledged; copies arrive again, later


@dataclass
class Faults:
    """Probabilities (0 to 1) of each fault of one process; whatever is not drawn goes well.

    `late_within` and `latency` are in seconds: a late write or a copy lands within the first; each way to or from the broker takes
    up to the second. `read_failed` is the chance that a call that writes nothing raises Unavailable.
    """

    random: Random
    append_lost: float = 0.0
    append_answer_lost: float = 0.0
    append_late: float = 0.0
    publish_lost: float = 0.0
    publish_answer_lost: float = 0.0
    publish_late: float = 0.0
    publish_twice: float = 0.0
    read_failed: float = 0.0
    late_within: float = 5.0
    latency: float = 0.0

    def off(self) -> None:
        """Heal: no fault is drawn from now on, and latency is gone. What was drawn as late before still lands."""
        for each in fields(self):
            if each.name not in ("random", "late_within"):
                setattr(self, each.name, 0.0)

    def append(self) -> Outcome:
        return self._draw(
            (self.append_lost, Outcome.LOST),
            (self.append_answer_lost, Outcome.ANSWER_LOST),
            (self.append_late, Outcome.LATE),
        )

    def publish(self) -> Outcome:
        return self._draw(
            (self.publish_lost, Outcome.LOST),
            (self.publish_answer_lost, Outcome.ANSWER_LOST),
            (self.publish_late, Outcome.LATE),
            (self.publish_twice, Outcome.TWICE),
        )

    def read_fails(self) -> bool:
        return self.read_failed > 0 and self.random.random() < self.read_failed

    def delay(self) -> float:
        """How long one way to or from the broker takes, in seconds."""
        return self.random.uniform(0, self.latency) if self.latency > 0 else 0.0

    def lateness(self) -> float:
        """After how many seconds a late write lands."""
        return self.random.uniform(0, self.late_within)

    def cut(self, length: int) -> int:
        """How many of `length` records are written before the rest is lost: 0 up to, not including, `length`."""
        return self.random.randrange(length)

    def _draw(self, *chances: tuple[float, Outcome]) -> Outcome:
        if not any(chance for chance, _ in chances):
            return Outcome.OK  # draws nothing, so that a healed run is the same whatever its seed
        drawn = self.random.random()
        for chance, outcome in chances:
            if drawn < chance:
                return outcome
            drawn -= chance
        return Outcome.OK

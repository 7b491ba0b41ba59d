"""How long, how often, and what then: every default is here and nowhere else.

The numbers: an attempt may take 30 s, what a person would call "it hangs". Five attempts from half a second on, doubling, span about
eight seconds of failures (or 2½ minutes of silence): longer than a restart of a participant, shorter than a customer's patience. A
compensation has its own, larger budget (S23): giving it up needs an operator. After the pivot there is no giving up (S19).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Unknown = Literal["verify", "compensate", "park"]

DEFAULT_TIMEOUT = timedelta(seconds=30)
DEFAULT_REMEMBER = timedelta(days=7)
DEFAULT_AT_ONCE = 10  # S17: iterations of a mapped step on their way at the same time
KEEP_EARLY = timedelta(days=1)  # S7: what nobody has started by then is a stray, and goes to the dead letters


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off: `attempts` in all, the pauses between them `first`, then `factor` times longer each, at most `longest`."""

    attempts: int = 5
    first: timedelta = timedelta(milliseconds=500)
    factor: float = 2.0
    longest: timedelta = timedelta(minutes=1)

    def pause(self, failures: int, seed: str) -> int:
        """Milliseconds before the next attempt after `failures` of them, 50 to 100 % of the full pause (S13).

        The jitter comes from the instance's own seed, so the decision does not depend on chance and instances do not march in step.
        """
        full = min(self.first.total_seconds() * self.factor ** min(failures - 1, 64), self.longest.total_seconds())
        share = zlib.crc32(f"{seed}:{failures}".encode()) / 0xFFFFFFFF
        return max(1, round(1000 * full * (0.5 + share / 2)))


DEFAULT_RETRY = Retry()
COMPENSATE_RETRY = Retry(attempts=10)
VERIFY_RETRY = Retry(attempts=5)

MAX_DATA_BYTES = 256 * 1024  # S32: of an instance's data, and of a command's
MAX_SENT_BYTES = 384 * 1024  # S32: of all execute commands of an instance, which its state holds
MAX_OUTPUT_BYTES = 1024 * 1024  # S32: of the commands of one decision, which has to fit in one batch
MAX_KEPT = 64  # S32: inputs kept for a parked instance
MAX_KEPT_BYTES = 256 * 1024  # S32: of them all, but for the first, which is always kept: with the rest, a state stays near 1 MiB
MAX_DECISIONS = 10_000  # S32: of one instance
MAX_EARLY = 64  # S7: events that came before their start or step, of one instance
MAX_EARLY_BYTES = 256 * 1024  # S7: of them all, but for the first, as of what is kept for an operator
MAX_ITEMS = 1000  # S17: of one mapped step; each is a command with a state of its own, and a state has to fit in 1 MiB
MAX_AT_ONCE = 100  # S17: so many commands of one mapped step may leave in one decision

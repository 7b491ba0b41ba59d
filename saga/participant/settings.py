"""The participant's numbers, each with its reason, and what it tells whoever measures it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be set on a runner; the defaults suit a service that answers within a second.

    concurrency   commands with `calls` or an async handler, of different keys, worked on at once; the others share transactions
    in_flight     records read but not yet answered; reading stops at it, so memory is bounded
    tries         runs of a handler before the command is answered `failed` (the saga then retries with a longer back-off)
    first_retry   the pause after the first failed run; each further pause is three times as long
    call_within   how long `calls` may take: a hung gateway must not hold its key for ever
    retention     how long a command is remembered; an older one is answered `expired`. Far longer than any saga retries
    poll          how often the outbox looks for what other processes left there
    stop_within   how long a graceful stop waits for what is in flight
    """

    concurrency: int = 32
    in_flight: int = 1_000
    tries: int = 3
    first_retry: timedelta = timedelta(milliseconds=200)
    call_within: timedelta = timedelta(seconds=30)
    retention: timedelta = timedelta(days=30)
    poll: timedelta = timedelta(milliseconds=250)
    stop_within: timedelta = timedelta(seconds=10)


class Meter(Protocol):
    """Told what happens; must return at once and never raise. Calls come from the runner's event loop only."""

    def on_command(self, service: str, command: str, result: str, seconds: float) -> None:
        """A command was answered. `command` is a type with a handler, or "other"; `result` is an outcome, or "unreadable"."""

    def on_duplicate(self, service: str) -> None:
        """A command that was answered before came again."""

    def on_dead_letter(self, service: str, reason: str) -> None:
        """A record was kept as a dead letter."""

    def on_outbox_age(self, service: str, seconds: float) -> None:
        """The age of the oldest record that still waits to be published; 0 if there is none."""

    def on_begun(self, service: str, old: int) -> None:
        """So many commands older than the retention began a call whose outcome was never learned; a person must look."""


class NoMeter:
    """Measures nothing."""

    def on_command(self, service: str, command: str, result: str, seconds: float) -> None: ...

    def on_duplicate(self, service: str) -> None: ...

    def on_dead_letter(self, service: str, reason: str) -> None: ...

    def on_outbox_age(self, service: str, seconds: float) -> None: ...

    def on_begun(self, service: str, old: int) -> None: ...

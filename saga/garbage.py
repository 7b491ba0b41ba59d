"""Garbage collection, for processes of ours that run for days."""

from __future__ import annotations

import gc


def look_seldom() -> None:
    """Look for garbage in cycles seldom: little of ours lies in cycles, and what was imported is never garbage.

    Python looks after every 700 new objects, each time among more of those that stay. That was a tenth of an orchestrator's processor
    time and a quarter of a participant's (`python -m bench.orchestrator`, `python -m bench.participant`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)

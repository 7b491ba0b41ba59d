"""Timers of one partition: which instance changes next by time alone. They live in the states; this is an index, rebuilt on restore.

A heap holds (due, slot), and entries that no longer are an instance's next timer are dropped when they come up. So a timer that was
settled costs nothing until then, and one slot has at most one entry that counts.
"""

from __future__ import annotations

import heapq

from saga.engine.state import Instance
from saga.runtime.states import Slot


class Timers:
    def __init__(self) -> None:
        self._heap: list[tuple[int, Slot]] = []
        self._due: dict[Slot, tuple[int, str]] = {}

    def set(self, slot: Slot, state: Instance) -> None:
        """Note an instance's next timer, in place of the one before."""
        timer = state.next_timer()
        if timer is None:
            self._due.pop(slot, None)
        elif self._due.get(slot) != timer:
            self._due[slot] = timer
            heapq.heappush(self._heap, (timer[0], slot))

    def next_due(self) -> int | None:
        """When the next timer is due, in ms."""
        while self._heap:
            due, slot = self._heap[0]
            timer = self._due.get(slot)
            if timer is not None and timer[0] == due:
                return due
            heapq.heappop(self._heap)
        return None

    def due(self, until: int, limit: int) -> list[tuple[Slot, str, int]]:
        """Up to `limit` timers that are due at `until` (ms), earliest first: (slot, step, due). They stay until `set` replaces them."""
        found: list[tuple[int, Slot]] = []
        while len(found) < limit and (due := self.next_due()) is not None and due <= until:
            found.append(heapq.heappop(self._heap))
        unique = dict.fromkeys(found)
        for entry in unique:
            heapq.heappush(self._heap, entry)
        return [(slot, self._due[slot][1], due) for due, slot in unique]

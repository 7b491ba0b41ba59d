"""Several instances that speak to each other over `saga.requests`, as parents, children and chains do; each is a Run that checks itself."""

from __future__ import annotations

from collections import deque
from typing import Any

from saga.engine.book import Book
from saga.engine.decision import Decision, Input, Request
from saga.engine.definition import Saga
from tests.engine.kit import Run


class Family:
    """Instances of several sagas. What one says to another is on its way until it is delivered."""

    def __init__(self, *sagas: Saga[Any, Any]) -> None:
        self.book = Book(sagas)
        self.runs: dict[tuple[str, str], Run] = {}
        self.on_its_way: deque[Request] = deque()
        self._told: dict[tuple[str, str], int] = {}

    def run(self, saga: str, key: str) -> Run:
        """The run of this saga and key; one that nothing has happened to yet, if there is none."""
        if (saga, key) not in self.runs:
            self.runs[saga, key] = Run(self.book.sagas[saga], key)
        return self.runs[saga, key]

    def settle(self) -> None:
        """Deliver all that instances say to each other, in order, until nothing is left to say."""
        for _ in range(1000):
            self.collect()
            if not self.on_its_way:
                return
            self.deliver(self.on_its_way.popleft())
        raise AssertionError("parent and child never stop talking")

    def collect(self) -> None:
        """Take up what was said since the last time."""
        for name, run in list(self.runs.items()):
            new = run.decisions[self._told.get(name, 0) :]
            self._told[name] = len(run.decisions)
            for decision in new:
                self.on_its_way += [output for output in decision.outputs if isinstance(output, Request)]

    def deliver(self, request: Request) -> Decision:
        """One record comes to whom it concerns, at its own time; it may be delivered again and again."""
        (target,) = self.book.route(request.type, request.attributes, request.data)
        run = self.run(target.saga, target.key)
        run.now = max(run.now, *(other.now for other in self.runs.values()))
        run.saga = self.book.definition(target.saga, run.state.version if run.state else None)
        origin = f"saga.requests:0:{len(run.decisions)}"
        run.feed(
            Input(target.kind, request.type, request.id, "saga", origin, data=request.data, attributes=dict(request.attributes))
        )
        return run.decisions[-1]

    def said(self) -> list[Request]:
        """Everything that was ever said, in the order of each run's decisions."""
        decisions = [decision for run in self.runs.values() for decision in run.decisions]
        return [output for decision in decisions for output in decision.outputs if isinstance(output, Request)]

"""The audit, on books that agree and on books of which one was broken on purpose: each break is found, by the check that is for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from saga.engine.state import Instance, Phase
from services.platform import audit
from services.platform.audit import Effect, Running
from services.stage.findings import Finding


class Row(NamedTuple):
    """As the host's tables have it, of `processes` and of `history`."""

    version: str
    name: str
    pid: int
    state: str = "up"
    what: str = "started"


class Version(NamedTuple):
    version: str
    state: str


def instance(saga: str, key: str, phase: Phase = Phase.COMPLETED) -> Instance:
    ended = None if phase is Phase.RUNNING else 2_000
    return Instance(f"{saga}:{key}:1", saga, key, 1, "hash", 1_000, 9_000, "digest", phase=phase, ended=ended)


class Books:
    """v1 runs; v2 failed; the second worker came, died, came back and went; two jobs, one of them done while v2 failed."""

    def __init__(self) -> None:
        self.told = [
            instance("rollout", "v1"),
            instance("rollout", "v2", Phase.COMPENSATED),
            instance("restart", "worker-2.v1.1"),
            instance("scale", "load-1"),
        ]
        self.wanted = [Row("v1", "store", 11), Row("v1", "worker-1", 12)]
        self.runs = [Running("v1", "store", 11), Running("v1", "worker-1", 12)]
        self.versions = [Version("v1", "current"), Version("v2", "dropped")]
        self.events = [
            Row("v1", "store", 11),
            Row("v1", "worker-1", 12),
            Row("v1", "worker-2", 13),
            Row("v1", "worker-2", 13, what="died"),
            Row("v1", "worker-2", 14),
            Row("v1", "worker-2", 14, what="stopped"),
        ]
        self.accepted = ["a", "b"]
        self.effects = [Effect("a", 0.5), Effect("b", 1.5)]

    def look(self) -> dict[str, Finding]:
        events: Any = self.events
        wanted: Any = self.wanted
        versions: Any = self.versions
        rollouts, restarts, scales = ([one for one in self.told if one.saga == saga] for saga in ("rollout", "restart", "scale"))
        return {
            "outcomes": audit.outcomes(self.told),
            "runs": audit.runs_as_wanted(wanted, self.runs),
            "versions": audit.versions(rollouts, versions, wanted),
            "never_twice": audit.never_twice(events),
            "came_back": audit.came_back(events, restarts),
            "scaled": audit.scaled(events, wanted, scales),
            "jobs": audit.jobs_once(self.accepted, self.effects),
            "went_on": audit.went_on(rollouts, self.effects),
        }


def test_books_that_agree() -> None:
    assert {name: finding.off for name, finding in Books().look().items() if finding.off} == {}


def put(name: str, value: Any) -> Callable[[Books], None]:
    return lambda books: setattr(books, name, value)


def add(name: str, value: Any) -> Callable[[Books], None]:
    return lambda books: getattr(books, name).append(value)


BREAKS: list[tuple[str, str, Callable[[Books], None]]] = [
    ("outcomes", "scale load-2 is running", add("told", instance("scale", "load-2", Phase.RUNNING))),
    ("runs", "store v1 runs 2 times", add("runs", Running("v1", "store", 15))),
    ("runs", "web v2 runs as 16, and should not", add("runs", Running("v2", "web", 16))),
    ("runs", "worker-1 v1 should run as 12", put("runs", [Running("v1", "store", 11)])),
    ("runs", "worker-3 v1 is down", add("wanted", Row("v1", "worker-3", 17, state="down"))),
    ("versions", "v2 is current, and should be dropped", put("versions", [Version("v1", "retired"), Version("v2", "current")])),
    ("versions", "web should run in v2", add("wanted", Row("v2", "web", 16))),
    ("never_twice", "store v1 was started as 18 while it ran as 11", add("events", Row("v1", "store", 18))),
    ("came_back", "store v1 died and was never heard of again", add("events", Row("v1", "store", 11, what="died"))),
    ("came_back", "nothing was done about the death store.v1.1", add("events", Row("v1", "store", 11, what="died"))),
    ("scaled", "2 workers, though nothing waits", add("wanted", Row("v1", "worker-2", 14))),
    ("scaled", "never more workers than the fewest", put("events", [Row("v1", "worker-1", 12)])),
    ("jobs", "c was accepted and never done", add("accepted", "c")),
    ("jobs", "a was done 2 times", add("effects", Effect("a", 1.6))),
    ("went_on", "no job was done during the rollout of v2", put("effects", [Effect("a", 0.5), Effect("b", 0.6)])),
]


@pytest.mark.parametrize(("check", "says", "broken"), BREAKS, ids=[says for _, says, _ in BREAKS])
def test_a_book_that_is_broken_on_purpose_is_found(check: str, says: str, broken: Callable[[Books], None]) -> None:
    books = Books()
    broken(books)
    assert says in books.look()[check].off


def test_a_check_with_nothing_to_look_at_is_off() -> None:
    books = Books()
    books.told, books.wanted, books.runs, books.versions, books.events, books.accepted, books.effects = [], [], [], [], [], [], []
    assert all(finding.off for finding in books.look().values())

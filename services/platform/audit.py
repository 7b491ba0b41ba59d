"""The audit of the platform: what the host wants, what the operating system runs, what became of each job, and the journal.

None of them is believed alone. The operating system is asked for every process that runs one of the platform's programs on this data.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
from sqlalchemy import Row, Table, create_engine, select

from saga.instances import Instance, instances
from services.platform.registry import Release, State, What, history, processes, releases
from services.platform.sizing import FEWEST
from services.platform.supervisor import PROGRAM
from services.stage.example import database
from services.stage.findings import Finding, counted

SAGAS = ("rollout", "restart", "scale")
ACCEPTED = "accepted-jobs.txt"


class Running(NamedTuple):
    """A process of the operating system that runs one of the platform's programs."""

    version: str
    name: str
    pid: int


class Effect(NamedTuple):
    """A job was done, at a time (s since 1970)."""

    job: str
    at: float


async def audit(data: Path) -> list[Finding]:
    """Read everything, and compare."""
    told = [state for state in await instances() if state.saga in SAGAS]
    rollouts = [state for state in told if state.saga == "rollout"]
    accepted = (data / ACCEPTED).read_text(encoding="utf-8").split()
    effects, events = done(data), _rows(history)
    return [
        outcomes(told),
        runs_as_wanted(wanted(), running(data)),
        versions(rollouts, _rows(releases), wanted()),
        never_twice(events),
        came_back(events, [state for state in told if state.saga == "restart"]),
        scaled(events, wanted(), [state for state in told if state.saga == "scale"]),
        jobs_once(accepted, effects),
        went_on(rollouts, effects),
    ]


def outcomes(told: Sequence[Instance]) -> Finding:
    open_ = [f"{state.saga} {state.key} is {'parked' if state.parked else state.phase}" for state in told if state.live]
    sagas = Counter(state.saga for state in told)
    shown = ", ".join(counted(count, saga) for saga, count in sorted(sagas.items()))
    return Finding(f"{shown}, without an outcome: {len(open_)}", open_ or _none(told))


def runs_as_wanted(rows: Sequence[Row[Any]], runs: Sequence[Running]) -> Finding:
    """What should run runs, each once, in its version; and nothing else does."""
    should = {Running(row.version, row.name, row.pid) for row in rows}
    off = [f"{row.name} {row.version} is {row.state}" for row in rows if row.state != State.UP]
    off += [f"{name} {version} runs {counted(count, 'time')}" for (version, name), count in _twice(runs)]
    off += [f"{one.name} {one.version} should run as {one.pid}" for one in sorted(should.difference(runs))]
    off += [f"{one.name} {one.version} runs as {one.pid}, and should not" for one in sorted(set(runs) - should)]
    return Finding(f"{counted(len(runs), 'process', 'processes')} running, as {len(rows)} should", off or _none(runs))


def versions(rollouts: Sequence[Instance], states: Sequence[Row[Any]], rows: Sequence[Row[Any]]) -> Finding:
    """The last version whose rollout completed is current, and nothing runs of another; one that failed left nothing."""
    completed = [state.key for state in rollouts if state.phase == "completed"]
    should = dict.fromkeys(completed, Release.RETIRED) | {completed[-1]: Release.CURRENT} if completed else {}
    should |= {state.key: Release.DROPPED for state in rollouts if state.phase == "compensated"}
    found = {row.version: row.state for row in states}
    off = [
        f"{version} is {found.get(version)}, and should be {state}"
        for version, state in should.items()
        if found.get(version) != state
    ]
    off += [f"{row.name} should run in {row.version}" for row in rows if row.version not in completed[-1:]]
    failed = [version for version, state in found.items() if state == Release.DROPPED]
    shown = f"{completed[-1] if completed else 'nothing'} is current; rolled back: {', '.join(failed) or 'nothing'}"
    return Finding(shown, off or _none(completed) or _none(failed))


def never_twice(events: Sequence[Row[Any]]) -> Finding:
    """Between two starts of one process there is its death, or that it was stopped."""
    off = []
    for (version, name), story in _stories(events).items():
        off += [
            f"{name} {version} was started as {after.pid} while it ran as {before.pid}"
            for before, after in pairwise(story)
            if before.what == after.what == What.STARTED
        ]
    starts = sum(event.what == What.STARTED for event in events)
    return Finding(f"{counted(starts, 'time')} a process was started, while it ran: {len(off)}", off or _none(starts))


def came_back(events: Sequence[Row[Any]], restarts: Sequence[Instance]) -> Finding:
    """After a death a process was started again, or it was stopped on purpose; and there is one restart for each death."""
    off, deaths, again = [], 0, 0
    for (version, name), story in _stories(events).items():
        died = [number for number, event in enumerate(story) if event.what == What.DIED]
        after = [next((event.what for event in story[number + 1 :] if event.what != What.DIED), None) for number in died]
        off += [f"{name} {version} died and was never heard of again" for what in after if what is None]
        deaths, again = deaths + len(died), again + sum(what == What.STARTED for what in after)
        should = {f"{name}.{version}.{number}" for number in range(1, len(died) + 1)}
        off += [f"nothing was done about the death {key}" for key in sorted(should - {state.key for state in restarts})]
    return Finding(f"{counted(deaths, 'death')}, {counted(again, 'time')} started again", off or _none(again))


def scaled(events: Sequence[Row[Any]], rows: Sequence[Row[Any]], scales: Sequence[Instance]) -> Finding:
    """More workers than the fewest ran at once; now the fewest do."""
    most = 0
    at_once: set[tuple[str, str]] = set()
    for event in events:
        if event.name.startswith("worker-"):
            at_once = (
                at_once | {(event.version, event.name)} if event.what == What.STARTED else at_once - {(event.version, event.name)}
            )
            most = max(most, max(Counter(version for version, _ in at_once).values(), default=0))
    now = sum(row.name.startswith("worker-") for row in rows)
    off = [] if now == FEWEST else [f"{now} workers, though nothing waits"]
    off += [] if most > FEWEST else ["never more workers than the fewest"]
    completed = sum(state.phase == "completed" for state in scales)
    return Finding(f"{counted(completed, 'time')} scaled: up to {counted(most, 'worker')}, now {now}", off or _none(completed))


def jobs_once(accepted: Sequence[str], effects: Sequence[Effect]) -> Finding:
    times = Counter(effect.job for effect in effects)
    off = [f"{job} was accepted and never done" for job in accepted if job not in times]
    off += [f"{job} was done {count} times" for job, count in times.items() if count > 1]
    twice = sum(count > 1 for count in times.values())
    return Finding(f"{counted(len(accepted), 'job')} accepted, {len(times)} done, done twice: {twice}", off or _none(accepted))


def went_on(rollouts: Sequence[Instance], effects: Sequence[Effect]) -> Finding:
    """While a release failed, jobs were done all the same."""
    failed = [state for state in rollouts if state.phase == "compensated" and state.ended]
    off, counts = [], []
    for state in failed:
        during = [effect for effect in effects if state.started <= effect.at * 1000 <= (state.ended or 0)]
        counts.append(len(during))
        off += [] if during else [f"no job was done during the rollout of {state.key}"]
    gap = max((after.at - before.at for before, after in pairwise(effects)), default=0.0)
    shown = f"{counted(sum(counts), 'job')} done while a release failed; the longest time without one, on the whole: {gap:.1f} s"
    return Finding(shown, off or _none(failed))


# --- what is read ------------------------------------------------------------------------------------------------------------------------


def wanted() -> list[Row[Any]]:
    """What should run, as the host's database has it."""
    return _rows(processes)


def running(data: Path) -> list[Running]:
    """What does run, as the operating system has it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:  # it is gone, or none of our business
            continue
        if str(PROGRAM) in words and f"{data / 'jobs.db'}" in words:
            folder, name = Path(words[words.index("--run") + 1]), words[words.index("--name") + 1]
            found.append(Running(folder.name, name, process.pid))
    return sorted(found)


def done(data: Path) -> list[Effect]:
    """What jobs were done, in that order."""
    return [Effect(*row) for row in _jobs(data, "SELECT job, at FROM effects ORDER BY at")]


def undone(data: Path) -> int:
    return int(_jobs(data, "SELECT count(*) FROM jobs WHERE done IS NULL")[0][0])


def _jobs(data: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{data / 'jobs.db'}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(query).fetchall()


def _rows(table: Table) -> list[Row[Any]]:
    engine = create_engine(database("host"))
    try:
        with engine.connect() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)))
    finally:
        engine.dispose()


def _stories(events: Sequence[Row[Any]]) -> dict[tuple[str, str], list[Row[Any]]]:
    found: dict[tuple[str, str], list[Row[Any]]] = defaultdict(list)
    for event in events:
        found[event.version, event.name].append(event)
    return found


def _twice(runs: Sequence[Running]) -> list[tuple[tuple[str, str], int]]:
    return [(key, count) for key, count in Counter((one.version, one.name) for one in runs).items() if count > 1]


def _none(found: object) -> list[str]:
    return [] if found else ["there was nothing to look at: this proves nothing"]

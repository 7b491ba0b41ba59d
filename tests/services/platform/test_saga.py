"""Rollout, restart and scale on the bench: every outcome, in virtual time. The host is played; its real one is tested beside this."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from saga import Message, Refused
from saga.testing import Bench, Replies, explore
from services.platform.pager import TABLES, pager, pages
from services.platform.saga import FIRST, MOST_DEATHS, restart, rollout, scale
from services.platform.sizing import CALM, FEWEST, JOBS_EACH, MOST, workers_for
from topics.platform import (
    CallSomebody,
    DropRelease,
    FindSwitch,
    LoadChanged,
    LoadRead,
    NotWanted,
    PlanRelease,
    ProbeFailed,
    ProbeRelease,
    ProcessDied,
    ProcessStarted,
    ProcessStopped,
    ProcessUnfit,
    ReadLoad,
    ReleaseDropped,
    ReleasePlanned,
    ReleaseProbed,
    ReleaseRetired,
    ReleaseSwitched,
    ReleaseTurnedDown,
    ReleaseWanted,
    RestartProcess,
    RetireRelease,
    StartProcess,
    StopProcess,
    Survey,
    Surveyed,
    SwitchRelease,
)

V2 = ReleaseWanted(version="v2", page="v2.html")
OLD = ReleasePlanned(old="v1", workers=("worker-1", "worker-2"))


def started(cmd: StartProcess | RestartProcess) -> ProcessStarted:
    return ProcessStarted(name=cmd.name, version=cmd.version, pid=7)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A host on which all goes well, v1 with two workers is current, and nothing waits."""
    with Bench(rollout, restart, scale) as bench:
        bench.answer(PlanRelease, OLD)
        bench.answer(DropRelease, lambda cmd: ReleaseDropped(version=cmd.version))
        bench.answer(StartProcess, started)
        bench.answer(RestartProcess, started)
        bench.answer(StopProcess, lambda cmd: ProcessStopped(name=cmd.name, version=cmd.version))
        bench.answer(ProbeRelease, lambda cmd: ReleaseProbed(version=cmd.version))
        bench.answer(SwitchRelease, lambda cmd: ReleaseSwitched(version=cmd.version))
        bench.answer(RetireRelease, lambda cmd: ReleaseRetired(version=cmd.version))
        bench.answer(Survey, Surveyed(version="v1", workers=("worker-1", "worker-2")))
        bench.answer(ReadLoad, LoadRead(waiting=0))
        yield bench


# --- rollout -----------------------------------------------------------------------------------------------------------------------------


def test_a_version_is_started_in_order_beside_the_old_one_which_is_retired_after_the_switch(bench: Bench) -> None:
    release = bench.start(V2)
    assert release.outcome == "completed"
    first, *others = bench.commands(StartProcess)
    assert first.name == "store", "whatever needs the store is started after it"
    assert {cmd.name for cmd in others} == {"web", "worker-1", "worker-2"}, (
        "the new version gets as many workers as the old one has"
    )
    assert next(cmd.settings for cmd in others if cmd.name == "web") == {"PAGE": "v2.html"}
    assert bench.commands(RetireRelease) == [RetireRelease(version="v1")]
    assert bench.commands(StopProcess) == []


def test_the_first_version_has_nothing_to_retire_and_the_fewest_workers(bench: Bench) -> None:
    bench.answer(PlanRelease, ReleasePlanned(old="", workers=()))
    release = bench.start(V2)
    assert release.outcome == "completed"
    assert len([cmd for cmd in bench.commands(StartProcess) if cmd.name.startswith("worker-")]) == FEWEST
    assert bench.commands(RetireRelease) == []


def test_a_process_that_is_not_ready_rolls_the_release_back_and_only_what_it_started_is_stopped(bench: Bench) -> None:
    def unfit(cmd: StartProcess) -> Message:
        if cmd.name == "web":
            raise Refused(ProcessUnfit(name=cmd.name, version=cmd.version, reason="its page is not there"))
        return started(cmd)

    bench.answer(StartProcess, unfit)
    release = bench.start(V2)
    assert release.outcome == "compensated"
    stopped = [(cmd.name, cmd.version) for cmd in bench.commands(StopProcess)]
    assert stopped[-1] == ("store", "v2"), "the store goes last: the others need it"
    assert set(stopped) == {("store", "v2"), ("worker-1", "v2"), ("worker-2", "v2")}, "the old version is not touched"
    assert bench.commands(DropRelease) == [DropRelease(version="v2")]
    assert bench.commands(SwitchRelease) == [], "nobody who uses the platform has seen the new version"


def test_a_release_that_does_not_answer_as_a_whole_is_rolled_back(bench: Bench) -> None:
    bench.refuse(ProbeRelease, ProbeFailed(version="v2", reason="worker-2: no answer"))
    assert bench.start(V2).outcome == "compensated"
    assert len(bench.commands(StopProcess)) == 4


def test_a_start_that_nobody_answers_is_undone_like_one_that_happened(bench: Bench) -> None:
    bench.silence(StartProcess)
    release = bench.start(V2)
    bench.settle()
    assert release.outcome == "compensated"
    assert [cmd.name for cmd in bench.commands(StopProcess)] == ["store"]


def test_a_second_release_at_the_same_time_is_turned_down_and_undoes_nothing(bench: Bench) -> None:
    bench.refuse(PlanRelease, ReleaseTurnedDown(reason="v3 is being rolled out"))
    assert bench.start(V2).outcome == "compensated"
    assert bench.commands(StartProcess) == []
    assert bench.commands(DropRelease) == [], "or the other release's plan would be gone"


def test_a_switch_without_an_answer_is_asked_after_and_never_guessed(bench: Bench) -> None:
    bench.silence(SwitchRelease)
    bench.answer(FindSwitch, ReleaseSwitched(version="v2"))
    release = bench.start(V2)
    bench.settle()
    assert release.outcome == "completed"
    assert bench.commands(RetireRelease) == [RetireRelease(version="v1")]


# --- restart -----------------------------------------------------------------------------------------------------------------------------


def death(lately: int, bench: Bench) -> ProcessDied:
    at = datetime.fromtimestamp(bench.now / 1000, UTC)
    return ProcessDied(name="worker-1", version="v1", death=lately, lately=lately, at=at, reason="it ended with code -9")


def test_a_process_that_died_is_started_again_after_a_pause_that_grows(bench: Bench) -> None:
    for lately in range(1, MOST_DEATHS):
        again = bench.start(death(lately, bench))
        pause = FIRST * 2.0 ** (lately - 1)
        bench.advance(pause - timedelta(milliseconds=50))
        assert len(bench.commands(RestartProcess)) == lately - 1, f"after death {lately} it waits {pause}"
        bench.advance(timedelta(milliseconds=100))
        assert again.outcome == "completed"
    assert bench.commands(CallSomebody) == []


def test_after_too_many_deaths_a_person_is_called_instead() -> None:
    with Bench(restart) as bench:
        store = bench.participant(pager, tables=TABLES)
        assert bench.start(death(MOST_DEATHS, bench)).outcome == "completed"
        assert bench.commands(RestartProcess) == []
        with store.read() as connection:
            (what,) = connection.execute(select(pages.c.what)).scalars()
        assert what == f"died {MOST_DEATHS} times within a minute; the last time it ended with code -9"


def test_a_process_that_was_stopped_meanwhile_stays_stopped(bench: Bench) -> None:
    bench.refuse(RestartProcess, NotWanted(name="worker-1", version="v1", reason="it was stopped on purpose"))
    again = bench.start(death(1, bench))
    bench.settle()
    assert again.outcome == "compensated"
    assert bench.commands(StartProcess) == []


def test_a_host_that_is_away_is_waited_for(bench: Bench) -> None:
    bench.silence(RestartProcess, times=3)
    again = bench.start(death(1, bench))
    bench.settle()
    assert again.outcome == "completed"


# --- scale -------------------------------------------------------------------------------------------------------------------------------

LOAD = LoadChanged(reading="load-1", waiting=99, working=2)


def test_workers_that_are_missing_are_started_by_what_waits_now_and_not_by_what_waited(bench: Bench) -> None:
    bench.answer(ReadLoad, LoadRead(waiting=3 * JOBS_EACH))
    assert bench.start(LOAD).outcome == "completed"
    assert bench.commands(StartProcess) == [StartProcess(name="worker-3", version="v1")]


def test_when_nothing_waits_all_but_the_fewest_are_stopped(bench: Bench) -> None:
    assert bench.start(LOAD).outcome == "completed"
    assert bench.commands(StopProcess) == [StopProcess(name="worker-2", version="v1")]
    assert bench.commands(StartProcess) == []


def test_workers_of_a_version_that_was_retired_meanwhile_are_undone(bench: Bench) -> None:
    bench.answer(ReadLoad, LoadRead(waiting=1000))
    bench.answer(StartProcess, started, times=1)
    bench.refuse(StartProcess, NotWanted(name="worker-4", version="v1", reason="v1 is retired"))
    assert bench.start(LOAD).outcome == "compensated"
    assert bench.commands(StopProcess) == [StopProcess(name="worker-3", version="v1")]


def test_before_there_is_a_version_nothing_is_scaled(bench: Bench) -> None:
    bench.answer(Survey, Surveyed(version="", workers=()))
    bench.answer(ReadLoad, LoadRead(waiting=1000))
    assert bench.start(LOAD).outcome == "completed"
    assert bench.commands(StartProcess) == []


def test_workers_come_by_what_waits_and_go_only_when_it_is_calm() -> None:
    assert workers_for(0, 0) == FEWEST
    assert workers_for(JOBS_EACH + 1, FEWEST) == FEWEST + 1
    assert workers_for(10_000, 2) == MOST
    assert workers_for(CALM, MOST) == MOST, "a load around a limit does not start and stop workers all the time"
    assert workers_for(CALM - 1, MOST) == FEWEST


# --- every fault -------------------------------------------------------------------------------------------------------------------------


def test_no_fault_leaves_a_rollout_half_done() -> None:
    planned = ReleasePlanned(old="v1", workers=("worker-1",))
    explore(rollout, start=V2, replies={PlanRelease: planned}, no_effect={ProbeRelease}, faults=1).assert_ok()


def test_no_fault_leaves_a_restart_half_done() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for lately in (1, MOST_DEATHS):
        event = ProcessDied(name="worker-1", version="v1", death=1, lately=lately, at=at, reason="killed")
        explore(restart, start=event, faults=1).assert_ok()


def test_no_fault_leaves_a_scaling_half_done() -> None:
    replies: Replies = {Survey: Surveyed(version="v1", workers=("worker-1",)), ReadLoad: LoadRead(waiting=3 * JOBS_EACH)}
    explore(scale, start=LOAD, replies=replies, no_effect={Survey, ReadLoad}, faults=1).assert_ok()

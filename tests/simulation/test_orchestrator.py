"""The production task and journal over the in-memory log, with crashes, pauses, races and append faults, by seed."""

from __future__ import annotations

import pytest

from tests.simulation.playing import assert_met, play

EXPECTED = {
    *("crash", "pause", "stop", "join", "clock", "down", "grow", "foreign", "trim"),
    *("claim", "void", "snapshot", "timer", "unnamed", "completed", "compensated", "saga.requests", "saga.deadletter"),
    *("parked: user-code", "note: kept", "note: retried", "note: duplicate", "note: timed-out", "note: late"),
}


@pytest.mark.parametrize("seed", range(12))
def test_a_world_converges_whatever_happens(seed: int) -> None:
    play(seed)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(115, id="a void batch at the journal's end named a snapshot that was trimmed since"),
        pytest.param(169, id="a new owner had not seen that an input topic had grown, and fired timers before replies there"),
    ],
)
def test_a_world_that_once_failed(seed: int) -> None:
    play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 200, 10))
def test_many_worlds_converge(first: int) -> None:
    for seed in range(first, first + 10):
        play(seed)


def test_the_simulation_meets_what_it_is_for() -> None:
    assert_met(EXPECTED)

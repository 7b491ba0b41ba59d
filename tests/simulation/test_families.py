"""Parents, children, chains, maps and awaited events under the faults of the first simulation: crashes, pauses, races, lost appends."""

from __future__ import annotations

import pytest

from tests.simulation.playing import assert_met, play
from tests.simulation.sagas import UNDOES
from tests.simulation.trips import Weather, trips
from tests.simulation.world import Cast

TRIPS = Cast(trips, "trip", frozenset(UNDOES), ("weather.events", Weather.__type__))
EXPECTED = {
    *("crash", "pause", "void", "snapshot", "completed", "compensated", "undone child", "saga.requests"),
    *("note: early", "note: event", "note: undone", "note: released", "note: late", "note: duplicate", "note: nothing"),
}


@pytest.mark.parametrize("seed", range(10))
def test_families_converge_whatever_happens(seed: int) -> None:
    play(seed, TRIPS)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 160, 10))
def test_many_families_converge(first: int) -> None:
    for seed in range(first, first + 10):
        play(seed, TRIPS)


def test_the_simulation_meets_what_it_is_for() -> None:
    assert_met(EXPECTED, TRIPS)

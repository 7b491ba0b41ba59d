"""Parents, children, chains, maps and awaited events under the faults of the first simulation: crashes, pauses, races, lost appends."""

from __future__ import annotations

from collections import Counter

import pytest

from saga.testing.clock import run
from tests.simulation.sagas import UNDOES
from tests.simulation.trips import Weather, trips
from tests.simulation.world import Cast, World

TRIPS = Cast(trips, "trip", frozenset(UNDOES), ("weather.events", Weather.__type__))
EXPECTED = {
    *("crash", "pause", "void", "snapshot", "completed", "compensated", "undone child", "saga.requests"),
    *("note: early", "note: event", "note: undone", "note: released", "note: late", "note: duplicate", "note: nothing"),
}


def play(seed: int) -> Counter[str]:
    async def scene() -> World:
        world = World(seed, cast=TRIPS)
        await world.play()
        return world

    world = run(scene(), seed=seed)
    world.check()
    return world.met


@pytest.mark.parametrize("seed", range(10))
def test_families_converge_whatever_happens(seed: int) -> None:
    play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 160, 10))
def test_many_families_converge(first: int) -> None:
    for seed in range(first, first + 10):
        try:
            play(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_the_simulation_meets_what_it_is_for() -> None:
    met: Counter[str] = Counter()
    for seed in range(1000, 1012):
        met += play(seed)
        if met.keys() >= EXPECTED:
            return
    raise AssertionError(f"never met: {EXPECTED - met.keys()}; met: {met}")

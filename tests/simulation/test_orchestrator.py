"""The production task and journal over the in-memory log, with crashes, pauses, races and append faults, by seed."""

from __future__ import annotations

from collections import Counter

import pytest

from saga.testing.clock import run
from tests.simulation.world import World


def play(seed: int, **options: float) -> Counter[str]:
    async def scene() -> World:
        world = World(seed, **options)  # type: ignore[arg-type]
        await world.play()
        return world

    world = run(scene(), seed=seed)
    world.check()
    return world.met


@pytest.mark.parametrize("seed", range(20))
def test_a_world_converges_whatever_happens(seed: int) -> None:
    play(seed)


def test_the_simulation_meets_what_it_is_for() -> None:
    met: Counter[str] = Counter()
    for seed in range(1000, 1010):
        met += play(seed)
    expected = {"crash", "pause", "stop", "join", "clock", "snapshot", "void", "completed", "compensated"}
    assert expected <= met.keys(), f"never met: {expected - met.keys()}"

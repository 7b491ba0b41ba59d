"""What every simulation is asked: to converge on any seed, and to meet what it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from saga.testing.clock import run
from tests.simulation.world import ORDERS, Cast, World


def play(seed: int, cast: Cast = ORDERS) -> Counter[str]:
    """One world from beginning to end, with all promises checked: what it met. Raises AssertionError, with the seed."""

    async def scene() -> World:
        world = World(seed, cast=cast)
        await world.play()
        return world

    try:
        world = run(scene(), seed=seed)
        world.check()
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    return world.met


def assert_met(expected: Iterable[str], cast: Cast = ORDERS) -> None:
    """Each of these happens in some run, or the runs prove nothing."""
    missing, met = set(expected), Counter[str]()
    for seed in range(1000, 1012):
        met += play(seed, cast)
        missing -= met.keys()
        if not missing:
            return
    raise AssertionError(f"never met: {missing}; met: {met}")

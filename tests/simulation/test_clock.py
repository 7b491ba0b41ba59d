from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest

from saga.testing.clock import Deadlock, Process, VirtualTimeLoop, run


def test_an_hour_of_sleep_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run(main()) == 3600
    assert time.monotonic() - began < 5


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main() -> list[tuple[int, float]]:
        woken: list[tuple[int, float]] = []

        async def sleeper(seconds: int) -> None:
            await asyncio.sleep(seconds)
            woken.append((seconds, asyncio.get_running_loop().time()))

        await asyncio.gather(*(sleeper(n) for n in (3, 1, 2)))
        return woken

    for seed in (None, 1, 2):
        assert run(main(), seed=seed) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_timeouts_keep_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(90):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run(main()) == 90


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(stuck(), name="the stuck one")

    with pytest.raises(Deadlock, match=r"the stuck one at .*locks\.py:\d+ in wait"):
        run(main())


def _order(seed: int | None) -> list[int]:
    async def main() -> list[int]:
        seen: list[int] = []

        async def step(n: int) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(n)

        await asyncio.gather(*(step(n) for n in range(5)))
        return seen

    return run(main(), seed=seed)


def test_a_seed_decides_the_order_and_repeats_it() -> None:
    assert _order(None) == list(range(5)) * 3
    assert _order(7) == _order(7)
    assert len({tuple(_order(seed)) for seed in range(20)}) > 10


def test_functions_for_threads_run_at_once_in_the_loop() -> None:
    def query(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT 41 + 1").fetchone()[0])  # sqlite3 refuses another thread

    async def main() -> int:
        connection = sqlite3.connect(":memory:")
        try:
            return await asyncio.to_thread(query, connection)
        finally:
            connection.close()

    assert run(main()) == 42


def test_an_exception_in_a_thread_function_reaches_the_caller() -> None:
    def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        await asyncio.to_thread(fail)

    with pytest.raises(ValueError, match="no"):
        run(main())


def test_what_is_left_at_the_end_is_cancelled_and_cleans_up() -> None:
    cleaned: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(10_000)
        finally:
            try:
                await asyncio.Event().wait()  # waits again: is cancelled again
            finally:
                cleaned.append("background")

    async def main() -> str:
        asyncio.get_running_loop().create_task(background())
        await asyncio.sleep(1)
        return "done"

    assert run(main()) == "done"
    assert cleaned == ["background"]


def test_a_task_that_refuses_to_end_is_reported() -> None:
    released = False

    async def stubborn() -> None:
        while not released:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    loop = VirtualTimeLoop()
    try:
        task = loop.create_task(stubborn(), name="stubborn")
        loop.run_until_complete(asyncio.sleep(1))
        with pytest.raises(RuntimeError, match="do not end when cancelled: stubborn"):
            loop.finish()
        released = True
        loop.finish()
    finally:
        loop.close()
    assert task.done()


def _freezing(seed: int | None, *, thaw: bool) -> tuple[list[str], list[str]]:
    """A process of two tasks that is frozen for a while after 2.5 s; what it did until 10 s, and what afterwards."""
    did: list[str] = []

    async def tick(name: str) -> None:
        try:
            for n in range(1, 6):
                await asyncio.sleep(1)
                did.append(f"{name}{n} at {asyncio.get_running_loop().time():g}")
        finally:
            did.append(f"{name} ends")

    async def program() -> None:
        await asyncio.gather(asyncio.create_task(tick("a")), asyncio.to_thread(lambda: None), tick("b"))

    async def main() -> list[str]:
        process = Process("p")
        process.start(program())
        await asyncio.sleep(2.5)
        process.freeze()
        await asyncio.sleep(5)
        if thaw:
            process.thaw()
        await asyncio.sleep(2.5)
        return list(did)

    until_ten = run(main(), seed=seed)
    return until_ten, did[len(until_ten) :]


def test_a_frozen_process_runs_no_line_and_no_clean_up() -> None:
    for seed in (None, 1, 2, 3):
        did, after = _freezing(seed, thaw=False)
        assert sorted(did) == ["a1 at 1", "a2 at 2", "b1 at 1", "b2 at 2"]
        assert sorted(after) == ["a ends", "b ends"], "cleaned up only when the whole run is over"


def test_a_thawed_process_goes_on_late() -> None:
    for seed in (None, 1, 2, 3):
        did, _ = _freezing(seed, thaw=True)
        times = {1: "1", 2: "2", 3: "7.5", 4: "8.5", 5: "9.5"}
        assert sorted(did) == sorted(["a ends", "b ends", *(f"{name}{n} at {at}" for name in "ab" for n, at in times.items())])


def test_freezing_takes_effect_within_the_turn() -> None:
    async def main() -> int:
        process, steps = Process("p"), 0

        async def step() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0)
                steps += 1

        for _ in range(5):
            process.start(step())
        for _ in range(10):
            await asyncio.sleep(0)
        process.freeze()
        before = steps
        await asyncio.sleep(1)
        return steps - before

    for seed in range(10):
        assert run(main(), seed=seed) == 0

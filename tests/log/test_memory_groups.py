"""How the in-memory groups treat members that die, pause, are slow, or raise."""

from __future__ import annotations

import asyncio

import pytest

from saga.errors import LostOwnership
from saga.testing.clock import run
from tests.log.tools import TO, Owner, client, cluster, until, waits


def test_the_group_drops_a_killed_member_after_the_session_timeout() -> None:
    async def scenario() -> None:
        broker, two = await cluster(4)
        one, changed = await client(broker, "one"), asyncio.Condition()
        first, second = Owner(changed), Owner(changed)
        await one.join("g", "t", first)
        await two.join("g", "t", second)
        await until(changed, lambda: len(first.owned) == len(second.owned) == 2)
        told = list(first.history)
        began = asyncio.get_running_loop().time()
        one.kill()
        await until(changed, lambda: len(second.owned) == 4)
        assert 10 <= asyncio.get_running_loop().time() - began < 11
        assert first.history == told, "a dead process's listener hears nothing"

    run(scenario())


def test_a_paused_member_loses_its_place_and_learns_it_late() -> None:
    async def scenario() -> None:
        broker, two = await cluster(4)
        one, changed = await client(broker, "one"), asyncio.Condition()
        first, second = Owner(changed), Owner(changed)
        membership = await one.join("g", "t", first)
        await until(changed, lambda: len(first.owned) == 4)
        one.pause()
        await two.join("g", "t", second)
        await until(changed, lambda: len(second.owned) == 4)
        assert len(first.owned) == 4, "two members believe that they own all"
        committing = await waits(membership.commit({TO: 5}))
        one.resume()
        with pytest.raises(LostOwnership):
            await committing
        await until(changed, lambda: len(first.owned) == len(second.owned) == 2)
        assert [what for what, _ in first.history] == ["assigned", "revoked", "assigned"]
        await membership.commit({TO: 5})

    run(scenario())


def test_a_short_pause_costs_nothing() -> None:
    async def scenario() -> None:
        broker, _ = await cluster(4)
        log, changed = await client(broker, "one"), asyncio.Condition()
        owner = Owner(changed)
        membership = await log.join("g", "t", owner)
        await until(changed, lambda: len(owner.owned) == 4)
        log.pause()
        await asyncio.sleep(9)
        log.resume()
        await asyncio.sleep(100)
        await membership.commit({TO: 1})
        assert [what for what, _ in owner.history] == ["assigned"]

    run(scenario())


def test_a_member_slow_to_give_up_is_left_behind() -> None:
    async def scenario() -> None:
        broker, two = await cluster(4)
        one, changed, go_on = await client(broker, "one"), asyncio.Condition(), asyncio.Event()

        class Slow(Owner):
            async def revoked(self, partitions: frozenset[int]) -> None:
                await go_on.wait()
                await super().revoked(partitions)

        first, second = Slow(changed), Owner(changed)
        membership = await one.join("g", "t", first)
        await until(changed, lambda: len(first.owned) == 4)
        began = asyncio.get_running_loop().time()
        await two.join("g", "t", second)
        await until(changed, lambda: len(second.owned) == 4)
        assert 5 <= asyncio.get_running_loop().time() - began < 6
        with pytest.raises(LostOwnership):
            await membership.commit({TO: 1})
        go_on.set()
        await until(changed, lambda: len(first.owned) == len(second.owned) == 2)

    run(scenario())


def test_a_listener_that_raises_does_not_stop_the_group() -> None:
    async def scenario() -> None:
        broker, _ = await cluster(4)
        log, changed = await client(broker, "one"), asyncio.Condition()
        heard: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["message"]))

        class Failing(Owner):
            async def revoked(self, partitions: frozenset[int]) -> None:
                raise ValueError(f"cannot give up {sorted(partitions)}")

        owner = Failing(changed)
        membership = await log.join("g", "t", owner)
        await until(changed, lambda: len(owner.owned) == 4)
        await membership.leave()
        assert heard == ["revoked() of the listener of one-1 raised"]

    run(scenario())

"""What every log's consumer groups must do."""

from __future__ import annotations

import asyncio

import pytest

from saga.errors import LostOwnership
from saga.log.base import TopicPartition
from tests.log.conftest import Adapter
from tests.log.tools import Owner, until

ALL = frozenset(range(5))


def test_one_member_gets_all(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        changed = asyncio.Condition()
        owner = Owner(changed)
        membership = await log.join(adapter.name("group"), await adapter.topic(log, 5), owner)
        await until(changed, lambda: owner.owned == ALL)
        await membership.leave()
        assert owner.history[-1] == ("revoked", ALL), "leaving must tell the listener what it gives up"

    adapter.run(scenario)


def test_two_members_share_and_each_partition_has_one_owner(adapter: Adapter) -> None:
    async def scenario() -> None:
        one, two = await adapter.log("one"), await adapter.log("two")
        group, topic, changed = adapter.name("group"), await adapter.topic(one, 5), asyncio.Condition()
        first, second = Owner(changed), Owner(changed)
        await one.join(group, topic, first)
        await until(changed, lambda: first.owned == ALL)
        await two.join(group, topic, second)
        await until(changed, lambda: bool(second.owned) and first.owned | second.owned == ALL)
        assert not first.owned & second.owned
        assert sorted(map(len, (first.owned, second.owned))) == [2, 3]
        assert ("revoked", ALL) in first.history, "a rebalance takes everything away first"

    adapter.run(scenario)


def test_leaving_hands_over(adapter: Adapter) -> None:
    async def scenario() -> None:
        one, two = await adapter.log("one"), await adapter.log("two")
        group, topic, changed = adapter.name("group"), await adapter.topic(one, 5), asyncio.Condition()
        first, second = Owner(changed), Owner(changed)
        leaving = await one.join(group, topic, first)
        await two.join(group, topic, second)
        await until(changed, lambda: bool(first.owned) and bool(second.owned) and first.owned | second.owned == ALL)
        had = first.owned
        await leaving.leave()
        assert first.history[-1] == ("revoked", had)
        await until(changed, lambda: second.owned == ALL)
        assert first.owned == frozenset()

    adapter.run(scenario)


def test_more_members_than_partitions(adapter: Adapter) -> None:
    async def scenario() -> None:
        one, two = await adapter.log("one"), await adapter.log("two")
        group, topic, changed = adapter.name("group"), await adapter.topic(one, 1), asyncio.Condition()
        first, second = Owner(changed), Owner(changed)
        await one.join(group, topic, first)
        await two.join(group, topic, second)
        await until(changed, lambda: len(first.history) > 0 and len(second.history) > 0)
        await until(changed, lambda: sorted(map(len, (first.owned, second.owned))) == [0, 1])

    adapter.run(scenario)


def test_offsets_are_kept_for_the_group(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        group, topic, changed = adapter.name("group"), await adapter.topic(log, 5), asyncio.Condition()
        owner, later = Owner(changed), Owner(changed)
        parts = [TopicPartition(topic, number) for number in range(5)]
        membership = await log.join(group, topic, owner)
        await until(changed, lambda: owner.owned == ALL)
        assert await membership.committed(parts) == {}
        await membership.commit({parts[0]: 7, parts[3]: 0})
        await membership.commit({parts[0]: 8})
        await membership.leave()
        again = await log.join(group, topic, later)
        await until(changed, lambda: later.owned == ALL)
        assert await again.committed(parts) == {parts[0]: 8, parts[3]: 0}

    adapter.run(scenario)


def test_offsets_can_be_committed_while_giving_up(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        group, topic, changed = adapter.name("group"), await adapter.topic(log, 5), asyncio.Condition()
        part = TopicPartition(topic, 2)

        class Committing(Owner):
            async def revoked(self, partitions: frozenset[int]) -> None:
                await membership.commit({part: 11})
                await super().revoked(partitions)

        owner, other = Committing(changed), Owner(changed)
        membership = await log.join(group, topic, owner)
        await until(changed, lambda: owner.owned == ALL)
        await membership.leave()
        after = await log.join(group, topic, other)
        assert await after.committed([part]) == {part: 11}

    adapter.run(scenario)


def test_a_member_that_lost_its_place_cannot_commit(adapter: Adapter) -> None:
    async def scenario() -> None:
        log = await adapter.log()
        topic, changed = await adapter.topic(log, 5), asyncio.Condition()
        owner = Owner(changed)
        membership = await log.join(adapter.name("group"), topic, owner)
        await until(changed, lambda: owner.owned == ALL)
        await membership.leave()
        with pytest.raises(LostOwnership):
            await membership.commit({TopicPartition(topic, 0): 1})

    adapter.run(scenario)

"""Versions side by side, through the whole runtime on the log in memory: who starts with which, and what old code does with new ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from saga.app import App
from saga.engine.book import Book
from saga.engine.definition import Saga
from saga.engine.messages import DEADLETTERS, REQUESTS
from saga.engine.state import Phase
from saga.orchestrate import label_names
from saga.runtime.codec import EVENTS
from saga.runtime.task import Phase as TaskPhase
from saga.topics import specs
from tests.runtime.town import (
    LONG,
    PARTITIONS,
    Order,
    Ordered,
    Town,
    at,
    begin,
    completed,
    fields,
    other,
    play,
    version,
)


def told(town: Town, kind: str) -> list[dict[str, Any]]:
    return [orjson.loads(r.value or b"") for r in town.records(EVENTS) if fields(r)["type"] == f"saga.{kind}.v1"]


def test_new_instances_take_the_newest_version_and_live_ones_go_on_with_theirs() -> None:
    async def scene(town: Town) -> None:
        old = await town.orchestrate(version(1))
        await town.order("a")
        await town.until("a", at("pay"))
        await town.stop(old)
        await town.orchestrate(version(1), version(2))
        await town.order("b")
        b = await town.until("b", at("check"))
        assert b.version == 2
        await town.pay("a")
        a = await town.until("a", completed)
        assert (a.version, set(a.steps)) == (1, {"pay"})
        await town.pay("b", "check")
        await town.until("b", at("pay"))
        await town.pay("b")
        await town.until("b", completed)
        assert {announced["version"] for announced in told(town, "completed")} == {1, 2}
        assert not told(town, "parked")

    play(scene)


def test_an_owner_registers_every_version_and_counts_for_each() -> None:
    app = App(sagas=[version(2), version(1)], begin="earliest", partitions=PARTITIONS)
    assert {"check", "pay", "payment.checked.v1"} <= label_names(app)
    assert "payment.commands" in [spec.name for spec in specs(app, replication=1, min_insync=1)]

    async def scene(town: Town) -> None:
        worker = await town.orchestrate(version(1), version(2))
        await town.order("a")
        await town.until("a", at("check"))
        task = worker.tasks[town.home("a")]
        assert {"shop 1", "shop 2"} <= task.fold().outlines.keys()

    play(scene)


def test_a_version_that_is_retired_too_early_parks_its_instances_and_says_so_and_they_go_on_when_it_is_back() -> None:
    """Also a reply whose type only the retired version names is kept: once passed over, nobody would ever see it again."""

    async def scene(town: Town) -> None:
        old = await town.orchestrate(version(1), version(2))
        await town.order("a")
        await town.until("a", at("check"))
        await town.stop(old)
        new = await town.orchestrate(version(1), renumbered(4))
        await town.pay("a", "check")
        parked = await town.until("a", lambda state: state.parked is not None)
        assert parked.parked is not None
        assert (parked.parked.reason, parked.parked.holds, len(parked.kept)) == ("version", True, 1)
        assert "runs version 2; 'shop' is registered in version 4 only" in parked.parked.detail
        await town.stop(new)
        await town.orchestrate(version(1), version(2), renumbered(4))
        await town.until("a", at("pay"))
        await town.pay("a")
        state = await town.until("a", completed)
        assert state.version == 2
        (resumed,) = told(town, "resumed")
        assert resumed["key"] == "a"

    play(scene)


def renumbered(number: int) -> Saga[Ordered, Order]:
    """The structure of version 1 under another number: it names no type that version 2 adds."""
    made = version(1)
    made.version = number
    return made


def test_a_saga_that_is_gone_too_early_parks_its_instances_too() -> None:
    async def scene(town: Town) -> None:
        old = await town.orchestrate(version(1))
        await town.order("a")
        await town.until("a", at("pay"))
        await town.stop(old)
        await town.orchestrate(other())
        await town.pay("a")
        parked = await town.until("a", lambda state: state.parked is not None)
        assert parked.parked is not None
        assert "'shop' is not registered" in parked.parked.detail

    play(scene)


def test_while_a_deployment_rolls_old_code_gives_way_and_nothing_is_parked_or_lost() -> None:
    """Old and new code share the partitions. An instance of the new version that comes to the old code is left for the new."""

    async def scene(town: Town) -> None:
        olds = [await town.orchestrate(version(1)) for _ in range(2)]
        await asyncio.sleep(10)
        new = await town.orchestrate(version(1), version(2), version(3))
        await town.stop(olds[0])
        await asyncio.sleep(15)
        keys = [f"k{n}" for n in range(8)]
        for key in keys:
            await town.order(key)
        await asyncio.sleep(5)
        newer = [key for key in keys if (state := town.state(key)) is not None and state.version == 3]
        assert newer, "the new code owns nothing"
        assert len(newer) < len(keys), "the old code owns nothing"
        await town.stop(new)  # the old code is given what the new one had
        await asyncio.sleep(10)
        behind = olds[1].tasks[town.home(newer[0])]
        assert behind.phase is TaskPhase.CLAIMING
        assert f"{len(newer)} of shop version 3; waiting" in behind.problem
        assert not olds[1].ready, "whoever rolls the deployment must see that this process does not work"
        for key in newer:
            await town.pay(key, "check")  # old code would pass this over
            await town.order(key, "order.delivered.v1")  # and this: no command of anybody's brings it again
        await town.orchestrate(version(1), version(2), version(3))
        await town.stop(olds[1])
        for key in keys:
            await town.until(key, at("pay"), LONG)
            await town.pay(key)
            await town.until(key, completed)
        assert not told(town, "parked")
        assert not town.records(DEADLETTERS)

    play(scene)


def test_after_a_rollback_the_partition_goes_on_and_what_needs_the_newer_code_waits_for_it() -> None:
    async def scene(town: Town) -> None:
        new = await town.orchestrate(version(1), version(2))
        await town.order("a")
        await town.until("a", at("check"))
        await town.stop(new)
        rolled_back = await town.orchestrate(version(1))
        same = next(f"b{n}" for n in range(20) if town.home(f"b{n}") == town.home("a"))
        await town.order(same)
        await town.pay("a", "check")
        b = await town.until(same, at("pay"), LONG)
        assert b.version == 1, "a new instance starts with the newest version that is at hand"
        assert rolled_back.ready
        parked = await town.until("a", lambda state: state.parked is not None)
        assert len(parked.kept) == 1
        await town.stop(rolled_back)
        rolled_back = await town.orchestrate(version(1))
        await asyncio.sleep(10)
        assert rolled_back.ready, "it waited again, for an instance that is parked"
        await town.stop(rolled_back)
        await town.orchestrate(version(1), version(2))
        await town.until("a", at("pay"))
        await town.pay("a")
        await town.until("a", completed)

    play(scene)


def test_a_topic_that_only_the_newer_version_reads_is_read_on_from_where_it_was() -> None:
    async def scene(town: Town) -> None:
        new = await town.orchestrate(version(1), version(6))
        await town.order("a")
        await town.until("a", at("score"))
        await town.stop(new)
        rolled_back = await town.orchestrate(version(1))
        await town.pay("a", "score")
        await town.order("b")
        await asyncio.sleep(LONG)
        assert rolled_back.ready
        await town.stop(rolled_back)
        await town.orchestrate(version(1), version(6))
        await town.until("a", at("pay"))
        await town.pay("a")
        await town.until("a", completed)
        assert not told(town, "parked"), "nothing came for it that the old code reads"

    play(scene)


def test_an_instance_that_is_parked_for_another_reason_is_left_to_its_operator() -> None:
    broken = True

    def begun(o: Ordered) -> Order:
        if broken:
            raise KeyError("o")
        return begin(o)

    async def scene(town: Town) -> None:
        first = await town.orchestrate(version(1, begun=begun))
        await town.order("a")
        await town.until("a", lambda state: state.parked is not None)
        await town.stop(first)
        await town.orchestrate(version(1, begun=begun))
        await asyncio.sleep(20)
        state = town.state("a")
        assert state is not None
        assert state.parked is not None
        assert state.parked.reason == "user-code"
        assert not [r for r in town.records(REQUESTS) if fields(r)["type"] == "saga.resume.v1"]

    play(scene)


def test_what_came_before_its_start_starts_with_the_newest_version() -> None:
    """An event that is kept for a start runs no version yet."""

    async def scene(town: Town) -> None:
        old = await town.orchestrate(version(3))
        await town.order("a", "order.delivered.v1")
        await town.until("a", lambda state: state.phase is Phase.EARLY)
        await town.stop(old)
        newest = version(3)
        newest.version = 5
        await town.orchestrate(version(3), newest)
        await town.order("a")
        state = await town.until("a", at("check"))
        assert state.version == 5

    play(scene)


@pytest.mark.parametrize(
    ("ours", "theirs", "waits"),
    [
        ([1], [1, 2], True),
        ([1, 2], [1, 2], False),
        ([2], [1], False),
        ([1, 3], [1, 2], False),
    ],
    ids=["older", "same", "retired", "newer than both"],
)
def test_only_code_that_is_older_gives_way(ours: Sequence[int], theirs: Sequence[int], waits: bool) -> None:
    async def scene(town: Town) -> None:
        first = await town.orchestrate(*(version(number) for number in theirs))
        await town.order("a")
        await town.until("a", lambda state: state.live)
        await town.stop(first)
        second = await town.orchestrate(*(version(number) for number in ours))
        await asyncio.sleep(10)
        task = second.tasks[town.home("a")]
        assert (task.phase is TaskPhase.CLAIMING) is waits
        assert bool(task.problem) is waits
        beside = second.tasks[1 - town.home("a")]
        assert beside.phase is TaskPhase.RUNNING, "the other partition has nothing that it lacks"

    play(scene)


def test_old_code_gives_way_for_a_saga_that_it_never_had() -> None:
    book = Book([version(1)])
    assert book.definition("other") is None

    async def scene(town: Town) -> None:
        first = await town.orchestrate(version(1), other())
        await town.order("a", "order.delivered.v1")
        await asyncio.sleep(5)
        assert town.state("a", "other") is not None
        await town.stop(first)
        second = await town.orchestrate(version(1))
        await asyncio.sleep(10)
        assert "1 of other version 1" in second.tasks[town.home("a")].problem

    play(scene)

"""Where inputs begin: nothing is skipped without a word, and nothing that was decided is read again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from saga.engine.messages import REQUESTS
from saga.errors import InputsLost
from saga.log.base import Record, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.runtime.codec import checksum
from saga.runtime.fold import Position
from saga.runtime.inputs import Inputs
from saga.testing.clock import run

TP = TopicPartition("t", 0)


class Place:
    def __init__(self, partitions: int = 1, begin: Any = "latest", number: int = 0, home: int = 1) -> None:
        self.broker = MemoryBroker()
        self.broker.create([TopicSpec("t", partitions), TopicSpec(REQUESTS, home)])
        self.log = MemoryLog(self.broker)
        self.inputs = Inputs(self.log, number, home, begin)

    def put(self, *texts: str, to: TopicPartition = TP) -> None:
        for text in texts:
            self.broker.append(to, [Record(None, text.encode())])

    def read(self, offset: int) -> None:
        """Say that all below `offset` was decided."""
        self.inputs.positions[TP] = Position(offset, checksum(self.broker.slice(TP, offset - 1, offset)[0]))
        self.inputs.topics["t"] = 1

    async def find(self, *accept: TopicPartition, **counts: int) -> tuple[dict[TopicPartition, int], list[str]]:
        await self.log.open()
        return await self.inputs.find(counts or {"t": 1}, accept)


def test_a_known_position_goes_on_where_it_was() -> None:
    async def play() -> None:
        place = Place()
        place.put("a", "b", "c")
        place.read(2)
        assert await place.find() == ({TP: 2}, [])
        place.broker.trim(TP, 2)
        assert await place.find() == ({TP: 2}, []), "a log that begins just at the position has lost nothing"

    run(play())


def test_retention_that_ran_past_the_position_stops_until_the_loss_is_accepted() -> None:
    async def play() -> None:
        place = Place()
        place.put("a", "b", "c")
        place.read(1)
        place.broker.trim(TP, 2)
        with pytest.raises(InputsLost, match=r"t:0: inputs from 1 to 1 were deleted .*--accept-loss t:0"):
            await place.find()
        found, notes = await place.find(TP)
        assert found == {TP: 2}
        assert "loss accepted" in notes[0]

    run(play())


@pytest.mark.parametrize(
    ("again", "says"), [(["x"], "ends at 1, before the position 2"), (["x", "y"], "another record stands at 1")]
)
def test_a_topic_that_was_made_anew_is_refused_however_long_it_is(again: list[str], says: str) -> None:
    async def play() -> None:
        place = Place()
        place.put("a", "b")
        place.read(2)
        place.broker.recreate("t")
        place.put(*again)
        with pytest.raises(InputsLost, match=says):
            await place.find()
        found, notes = await place.find(TP)
        assert found == {TP: 0}, "what the new topic holds was skipped"
        assert "loss accepted" in notes[0]

    run(play())


def test_accepting_a_loss_elsewhere_accepts_none_here() -> None:
    async def play() -> None:
        place = Place()
        place.put("a", "b", "c")
        place.read(1)
        place.broker.trim(TP, 3)
        with pytest.raises(InputsLost):
            await place.find(TopicPartition("t", 1), TopicPartition("u", 0))

    run(play())


def test_a_new_topic_begins_where_the_app_says() -> None:
    async def play() -> None:
        for begin, offset in (("earliest", 0), ("latest", 2)):
            place = Place(begin=begin)
            place.put("a", "b")
            assert (await place.find())[0] == {TP: offset}, begin
        place = Place()
        place.put("a")
        moment = datetime.fromtimestamp(place.broker.now() / 1000 + 5, UTC)
        place.broker.epoch += 10
        place.put("b", "c")
        place.inputs = Inputs(place.log, 0, 1, moment)
        assert (await place.find())[0] == {TP: 1}

    run(play())


def test_our_own_requests_begin_at_the_start_whatever_the_app_says() -> None:
    async def play() -> None:
        place = Place(begin="latest")
        requests = TopicPartition(REQUESTS, 0)
        place.put("a", to=requests)
        assert (await place.find(**{REQUESTS: 1}))[0] == {requests: 0}

    run(play())


def test_partitions_added_later_begin_at_their_start() -> None:
    async def play() -> None:
        place = Place(begin="latest", number=0, home=1)
        place.put("old")
        assert (await place.find())[0] == {TP: 1}
        place.broker.grow("t", 3)
        place.put("new", to=TopicPartition("t", 2))
        assert (await place.find(t=3))[0] == {TP: 1, TopicPartition("t", 1): 0, TopicPartition("t", 2): 0}

    run(play())


def test_the_first_partition_that_is_ours_was_added_later_too() -> None:
    """With 1 partition of 3 numbers, number 1 reads nothing at first; what comes before it looks again must not be skipped."""

    async def play() -> None:
        place = Place(begin="latest", number=1, home=3)
        found, notes = await place.find()
        assert (found, notes) == ({}, ["t has 1 partitions"]), "that must be written down before the topic grows"
        place.broker.grow("t", 2)
        place.put("between", to=TopicPartition("t", 1))
        assert (await place.find(t=2))[0] == {TopicPartition("t", 1): 0}

    run(play())


@pytest.mark.parametrize(
    ("count", "home", "number", "mine"), [(7, 3, 1, [1, 4]), (2, 4, 3, []), (4, 4, 2, [2]), (5, 1, 0, [0, 1, 2, 3, 4])]
)
def test_each_partition_of_a_topic_is_read_by_one_number(count: int, home: int, number: int, mine: list[int]) -> None:
    place = Place(number=number, home=home)
    assert [tp.partition for tp in place.inputs.wanted({"t": count})] == mine


def test_a_topic_that_no_definition_needs_is_not_read_but_its_position_is_kept() -> None:
    async def play() -> None:
        place = Place()
        place.put("a")
        place.read(1)
        assert await place.find(**{REQUESTS: 1}) == (
            {TopicPartition(REQUESTS, 0): 0},
            [f"{REQUESTS} has 1 partitions", f"{REQUESTS}:0 begins at 0"],
        )
        assert place.inputs.reading == [TopicPartition(REQUESTS, 0)]
        assert place.inputs.positions[TP].offset == 1

    run(play())


def test_what_the_owner_before_saw_grow_is_read_at_once() -> None:
    place = Place()
    place.inputs.positions[TopicPartition("t", 4)] = Position(3, 0)
    assert place.inputs.wanted({"t": 1}) == [TP, TopicPartition("t", 4)]

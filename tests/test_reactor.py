"""What a reactor makes of what it hears, without Kafka; the whole of it runs in tests/kafka/test_reactors.py and in the examples."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from saga import Event, Misconfigured
from saga.cloudevents import CloudEvent
from saga.config import Config
from saga.errors import Unreadable
from saga.reactor import FaustReactor, heard
from saga.reactor.reactor import _until_done


class DoorOpened(Event, type="doors.opened.v1"):
    door: str


class DoorClosed(Event, type="doors.closed.v1"):
    door: str


def came(type: str, data: object) -> CloudEvent:
    return CloudEvent(type, "1", "doors", data)


def test_each_class_has_its_handler_and_what_has_none_is_passed_over() -> None:
    said: list[str] = []

    async def opened(event: DoorOpened, came: CloudEvent, partition: int) -> None:
        said.append(f"{event.door} opened, {came.id}, {partition}")

    react = heard({DoorOpened: opened})

    async def story() -> None:
        await react(came("doors.opened.v1", {"door": "left", "more": 1}), 3)
        await react(came("doors.closed.v1", {"door": "left"}), 3)
        await react(came("doors.opened.v1", {"door": "right"}), 0)

    asyncio.run(story())
    assert said == ["left opened, 1, 3", "right opened, 1, 0"]


def test_what_is_not_as_its_class_says_is_unreadable_and_says_where_without_the_value() -> None:
    async def never(*_: object) -> None:
        raise AssertionError("it was read")

    async def story() -> None:
        await heard({DoorClosed: never})(came("doors.closed.v1", {"door": 4711}), 0)

    with pytest.raises(Unreadable, match=r"doors\.closed\.v1 '1': door: Input should be a valid string") as caught:
        asyncio.run(story())
    assert "4711" not in str(caught.value)


def test_a_header_of_null_which_kafka_allows_is_passed_over() -> None:
    heard_of: list[str] = []

    async def opened(event: DoorOpened, _came: CloudEvent, _partition: int) -> None:
        heard_of.append(event.door)

    record = came("doors.opened.v1", {"door": "left"}).record(b"left")
    message = SimpleNamespace(
        topic="doors.events", partition=0, offset=7, timestamp=1.0, key=record.key, value=record.value, headers=[]
    )
    message.headers = [*record.headers, ("x-foreign", None)]
    asyncio.run(_until_done(heard({DoorOpened: opened}), message))
    assert heard_of == ["left"]


def test_a_reactor_needs_kafka_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="the reactors need Kafka, which Faust is made for; SAGA_LOG is 'file:x'"):
        FaustReactor(Config(log="file:x"), "doors", folder=tmp_path, partitions=1)

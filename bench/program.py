"""What the programs of the bench have in common: a log that the settings name, work until SIGTERM, and the end in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Collection

from saga.config import Config
from saga.connect import opened
from saga.errors import Unavailable
from saga.garbage import look_seldom
from saga.log.base import Log, Reader, TopicPartition

LOOK_SECONDS = 0.5  # how long a program waits for records before it looks whether it was told to stop


def run(name: str, work: Callable[[Log, asyncio.Event], Awaitable[None]]) -> None:
    """Run `work(log, stop)`, which returns soon after `stop` is set."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    look_seldom()  # as `saga run` and `serve` do

    async def until_told() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with opened(Config.read(), name) as log:
            await work(log, stop)

    asyncio.run(until_told())


async def follow(log: Log, partitions: Collection[TopicPartition]) -> Reader:
    """A reader of these partitions from their start; tried again while a broker that has just started does not answer."""
    while True:
        try:
            starts = {tp: bounds.start for tp, bounds in (await log.bounds(partitions)).items()}
            break
        except Unavailable as error:
            logging.warning("trying again: %s", str(error)[-200:])
    reader = log.reader()
    await reader.assign(starts)
    return reader

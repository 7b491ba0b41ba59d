"""The load: publishes starts straight to Kafka and hears how each saga ends.

A latency counts from the moment a start was *due*, not from when it was sent: else a system that stalls would delay its own load, and
hide the stall (coordinated omission). It ends when the consumer of this process has the saga's `saga.completed.v1`.

The load shares the machine with what it measures, so it is made cheap: no models, and records are sent and heard in lots.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple, Self

from bench.shop import STARTS, app, ordered
from saga.cloudevents import CloudEvent
from saga.errors import Unavailable
from saga.log.base import Log, Outgoing, TopicPartition
from saga.log.partition import home_of_bytes
from saga.runtime.codec import EVENTS

logger = logging.getLogger("bench.load")

COMPLETED = ("ce_type", b"saga.completed.v1")
WAIT_SECONDS = 0.5
LOT = 500  # starts in one publish
TOP_UP = 50  # starts sent at once to a saturated system: small against what is in flight, large against the cost of a publish


class Ended(NamedTuple):
    """A saga that has ended: when it was due and when its end was heard, in seconds of the loop's clock."""

    due: float
    end: float


class Load:
    """One load on one deployment; `log` must be open. Use it as a context: inside, ends are heard."""

    def __init__(self, log: Log, name: str) -> None:
        self.ended: list[Ended] = []
        self.unended: dict[bytes, float] = {}
        self._log = log
        self._name = name
        self._sent = 0
        self._reader = log.reader()
        self._listening: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    async def __aenter__(self) -> Self:
        partitions = [TopicPartition(EVENTS, number) for number in range(app.partitions)]
        await self._reader.assign({tp: bounds.end for tp, bounds in (await self._log.bounds(partitions)).items()})
        self._listening = asyncio.create_task(self._listen(partitions))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.wait([self._listening])
        await self._reader.close()

    async def steady(self, rate: float, seconds: float) -> list[Ended]:
        """Starts at a fixed rate, whatever the system does (an open loop); returns when all have ended. Sagas per second."""
        first, total = self._clock(), round(rate * seconds)
        before, begun = len(self.ended), 0
        async with asyncio.TaskGroup() as sending:
            while begun < total:
                now = self._clock()
                due = [first + number / rate for number in range(begun, total) if first + number / rate <= now]
                if due:
                    sending.create_task(self._send(due))
                    begun += len(due)
                await asyncio.sleep(max(0.0, first + begun / rate - self._clock()))
        await self.drained()
        return self.ended[before:]

    async def saturate(self, in_flight: int, until: asyncio.Event) -> None:
        """Keep so many sagas in flight (a closed loop), until told to stop."""
        while not until.is_set():
            missing = in_flight - len(self.unended)
            if missing >= min(TOP_UP, in_flight):
                await self._send([self._clock()] * missing)
            else:
                await self.changed()

    async def pour(self, count: int) -> None:
        """Starts as fast as they can be published, whatever becomes of them."""
        for lot in range(0, count, LOT):
            await self._send([self._clock()] * min(LOT, count - lot))

    async def drained(self) -> None:
        """Return when every saga that was started has ended."""
        while self.unended:
            await self.changed()

    async def changed(self) -> None:
        """Return once something was heard, or a moment has passed. Raises what ended the listening."""
        assert self._listening is not None
        if self._listening.done():
            self._listening.result()
        self._heard.clear()
        try:
            await asyncio.wait_for(self._heard.wait(), WAIT_SECONDS)
        except TimeoutError:
            pass

    async def _send(self, due: Sequence[float]) -> None:
        records = []
        for moment in due:
            self._sent += 1
            id = f"{self._name}-{self._sent:08d}"
            key = id.encode()
            self.unended[key] = moment
            event = CloudEvent("shop.ordered.v1", id, "shop", ordered(id), subject=id)
            records.append(Outgoing(TopicPartition(STARTS, home_of_bytes(key, app.partitions)), event.record(key)))
        while True:
            try:
                return await self._log.publish(records)
            except Unavailable as error:  # told again under the same ids, a start makes one saga; and its latency counts on
                logger.warning("the load publishes again: %s", error)

    async def _listen(self, partitions: Sequence[TopicPartition]) -> None:
        while True:
            for record in await self._reader.fetch(partitions, limit=1000, timeout=WAIT_SECONDS):
                if COMPLETED in record.headers and record.key is not None:
                    due = self.unended.pop(record.key, None)  # None: told twice, or of another load
                    if due is not None:
                        self.ended.append(Ended(due, self._clock()))
            self._heard.set()

"""The load meter: reads how many jobs wait in the current version's store, and tells when that does not fit those who work on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import httpx
from sqlalchemy import MetaData

from saga import Participant, Store, Work
from services.platform.addresses import current, place, run_folder
from services.platform.sizing import workers_for
from topics.platform import LoadChanged, LoadRead, ReadLoad

TABLES = MetaData()
LOOK_SECONDS = 1.0
QUIET_SECONDS = 4.0  # after it has told: so long it takes until what is done about it can be seen
ANSWER_SECONDS = 5.0

logger = logging.getLogger("platform.meter")
meter = Participant("meter")


class NoReading(Exception):
    """The store cannot be asked now."""


async def read() -> tuple[int, int]:
    """How many jobs wait, and how many workers asked for one lately. Raises NoReading."""
    folder = run_folder()
    there = place(folder, current(folder), "store")
    if there is None:
        raise NoReading("no version is current yet, or its store does not run")
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as http:
            answer = await http.post(f"http://127.0.0.1:{there.port}/load")
            load = answer.raise_for_status().json()
    except httpx.HTTPError as error:
        raise NoReading(f"the store does not answer: {type(error).__name__}") from error
    return load["waiting"], load["working"]


async def ask_the_store(_: ReadLoad, _work: Work) -> LoadRead:
    return LoadRead(waiting=(await read())[0])


@meter.handles(ReadLoad, calls=ask_the_store)
def read_load(_: ReadLoad, _work: Work, load: LoadRead) -> LoadRead:
    return load


async def watch(store: Store, stop: asyncio.Event) -> None:
    """Look every second, until `stop` is set. What is told and not acted upon is told again."""
    quiet_until = 0.0
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
        try:
            waiting, working = await read()
        except NoReading as reason:
            logger.debug("no reading: %s", reason)
            continue
        if workers_for(waiting, working) != working and time.monotonic() > quiet_until:
            reading = f"load-{time.time_ns() // 1_000_000}"
            event = LoadChanged(reading=reading, waiting=waiting, working=working)
            await store.run(lambda connection, event=event: store.send(connection, event, key=event.reading))  # type: ignore[misc]
            quiet_until = time.monotonic() + QUIET_SECONDS

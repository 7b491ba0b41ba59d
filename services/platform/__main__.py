"""Start services of it: `python -m services.platform host|lookout`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from saga import Store
from saga.config import Config
from saga.participate import participate, until_told
from services.platform.addresses import run_folder
from services.platform.host import TABLES as HOST
from services.platform.host import host
from services.platform.meter import TABLES as METER
from services.platform.meter import meter, watch
from services.platform.pager import TABLES as PAGER
from services.platform.pager import pager
from services.platform.supervisor import Supervisor
from services.stage.example import data_folder, database


async def run_host(stop: asyncio.Event) -> None:
    """The supervisor beside the participant. Its processes end last, so that what is being answered is still true."""
    store = Store(database("host"), tables=HOST)
    supervisor = Supervisor(store, run_folder(), data_folder() / "jobs.db")
    host.supervised_by(supervisor)
    ended = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(supervisor.run(ended))
            await participate({host: store}, Config.read(), stop)
            ended.set()
    finally:
        store.close()


async def run_lookout(stop: asyncio.Event) -> None:
    """The load meter and the pager."""
    meters, pages = Store(database("meter"), tables=METER), Store(database("pager"), tables=PAGER)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(meters, stop))
            await participate({meter: meters, pager: pages}, Config.read(), stop)
    finally:
        meters.close()
        pages.close()


PROCESSES = {"host": run_host, "lookout": run_lookout}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.platform", description=__doc__)
    parser.add_argument("process", choices=[*PROCESSES])
    name = parser.parse_args().process
    data_folder().mkdir(parents=True, exist_ok=True)
    sys.exit(until_told(PROCESSES[name], name))

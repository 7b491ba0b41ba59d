"""The services of the bench as one process: `python -m bench.services FOLDER SERVICE…`, a SQLite file each in the folder."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.program import run
from bench.shop import TABLES, app
from saga import ParticipantRunner, Store
from saga.log.base import Log


async def serve(log: Log, stop: asyncio.Event) -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    stores = {name: Store(f"sqlite:///{folder / name}.db", tables=TABLES) for name in names}
    try:
        async with asyncio.TaskGroup() as group:
            for name, store in stores.items():
                group.create_task(ParticipantRunner(app.participants[name], store, log).run(stop))
    finally:
        for store in stores.values():
            store.close()


if __name__ == "__main__":
    run("services", serve)

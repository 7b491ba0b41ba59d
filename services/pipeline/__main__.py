"""Start one: `python -m services.pipeline source|collector|cleaner|analyst|warehouse`."""

from __future__ import annotations

import argparse
import sys

from sqlalchemy import MetaData

from saga import Participant, Store
from saga.participate import serve, until_told
from services.pipeline.analyst import analyst
from services.pipeline.cleaner import TABLES, cleaner
from services.pipeline.collector import collector
from services.pipeline.source import run
from services.pipeline.warehouse import warehouse
from services.stage.example import data_folder, database

SERVICES: dict[str, tuple[Participant, MetaData | None]] = {
    "collector": (collector, None),  # these three have no tables of their own, only the inbox and the outbox
    "cleaner": (cleaner, TABLES),
    "analyst": (analyst, None),
    "warehouse": (warehouse, None),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.pipeline", description=__doc__)
    parser.add_argument("service", choices=["source", *SERVICES])
    name = parser.parse_args().service
    data_folder().mkdir(parents=True, exist_ok=True)
    if name == "source":
        return until_told(run, name)
    participant, tables = SERVICES[name]
    serve({participant: Store(database(name), tables=tables)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

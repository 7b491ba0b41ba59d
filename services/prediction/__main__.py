"""Start one: `python -m services.prediction preparer|trainer|registry|predictor`."""

from __future__ import annotations

import argparse
import sys

from sqlalchemy import MetaData

from saga import Participant, Store
from saga.participate import serve
from services.prediction.predictor import TABLES as PREDICTIONS
from services.prediction.predictor import predictor
from services.prediction.preparer import preparer
from services.prediction.registry import TABLES as VERSIONS
from services.prediction.registry import registry
from services.prediction.trainer import trainer
from services.stage.example import data_folder, database

SERVICES: dict[str, tuple[Participant, MetaData | None]] = {
    "preparer": (preparer, None),  # these two have no tables of their own, only the inbox and the outbox
    "trainer": (trainer, None),
    "registry": (registry, VERSIONS),
    "predictor": (predictor, PREDICTIONS),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.prediction", description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    name = parser.parse_args().service
    data_folder().mkdir(parents=True, exist_ok=True)
    participant, tables = SERVICES[name]
    serve({participant: Store(database(name), tables=tables)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

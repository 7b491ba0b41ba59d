"""Start one: `python -m services.chain purchases|cashier|loyalty`."""

from __future__ import annotations

import argparse
import sys

from sqlalchemy import MetaData

from saga import Participant, Store
from saga.participate import serve
from services.chain.cashier import TABLES as CASHIER
from services.chain.cashier import cashier
from services.chain.loyalty.points import TABLES as LOYALTY
from services.chain.loyalty.points import loyalty
from services.chain.purchases import TABLES as PURCHASES
from services.chain.purchases import purchases
from services.stage.example import data_folder, database

SERVICES: dict[str, tuple[Participant, MetaData]] = {
    "purchases": (purchases, PURCHASES),
    "cashier": (cashier, CASHIER),
    "loyalty": (loyalty, LOYALTY),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.chain", description=__doc__)
    parser.add_argument("service", choices=list(SERVICES))
    name = parser.parse_args().service
    data_folder().mkdir(parents=True, exist_ok=True)
    participant, tables = SERVICES[name]
    serve({participant: Store(database(name), tables=tables)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Start one: `python -m services.customer customer|billing|crm|insights`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys

from saga import Misconfigured, Store
from saga.participate import serve, until_told
from services.customer.billing import TABLES as BILLING
from services.customer.billing import billing, prepare
from services.customer.customer import TABLES as CUSTOMER
from services.customer.customer import customer
from services.stage.example import data_folder, database

REACTORS = ("crm", "insights")  # they need Faust, which is an extra


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.customer", description=__doc__)
    parser.add_argument("service", choices=["customer", "billing", *REACTORS])
    name = parser.parse_args().service
    data_folder().mkdir(parents=True, exist_ok=True)
    if name in REACTORS:
        return until_told(lambda stop: _react(name, stop), name)
    if name == "billing":
        store = Store(database(name), tables=BILLING)
        with store.begin() as connection:
            prepare(connection)
        serve({billing: store})
    else:
        serve({customer: Store(database(name), tables=CUSTOMER)})
    return 0


async def _react(name: str, stop: asyncio.Event) -> None:
    """Reactors are imported here only: everything else works without Faust."""
    if importlib.util.find_spec("faust") is None:
        raise Misconfigured(f"{name} needs Faust: pip install 'saga-kafka[reactors]'")
    from services.customer.reactors import crm, insights

    await (crm.run if name == "crm" else insights.run)(stop)


if __name__ == "__main__":
    sys.exit(main())

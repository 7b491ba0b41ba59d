"""Start one service: `python -m services.checkout order|payment|inventory|shipping|notification|gateway`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from services.checkout import gateway, inventory, notification, order, payment, shipping
from services.checkout.process import Service, main, run_service
from services.checkout.settings import SERVICES

DEFINITIONS: dict[str, Service] = {
    "order": order.SERVICE,
    "payment": payment.SERVICE,
    "inventory": inventory.SERVICE,
    "shipping": shipping.SERVICE,
    "notification": notification.SERVICE,
}


def start() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.checkout", description=__doc__)
    parser.add_argument("service", choices=[*SERVICES, "gateway"])
    name = parser.parse_args().service

    async def work(stop: asyncio.Event) -> None:
        await (gateway.run(stop) if name == "gateway" else run_service(DEFINITIONS[name], stop))

    return main(work, name)


if __name__ == "__main__":
    sys.exit(start())

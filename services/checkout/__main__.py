"""Start one: `python -m services.checkout order|payment|inventory|shipping|gateway|notification|analytics`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys

from saga import Misconfigured
from saga.participate import until_told
from services.checkout import gateway, inventory, order, payment, shipping
from services.checkout.process import Service, run_service
from services.checkout.settings import REACTORS, SERVICES

DEFINITIONS: dict[str, Service] = {
    "order": order.SERVICE,
    "payment": payment.SERVICE,
    "inventory": inventory.SERVICE,
    "shipping": shipping.SERVICE,
}


def start() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.checkout", description=__doc__)
    parser.add_argument("service", choices=[*SERVICES, "gateway", *REACTORS])
    name = parser.parse_args().service

    async def work(stop: asyncio.Event) -> None:
        if name in REACTORS:
            await _react(name, stop)
        else:
            await (gateway.run(stop) if name == "gateway" else run_service(DEFINITIONS[name], stop))

    return until_told(work, name)


async def _react(name: str, stop: asyncio.Event) -> None:
    """Reactors are imported here only: everything else works without Faust."""
    if importlib.util.find_spec("faust") is None:
        raise Misconfigured(f"{name} needs Faust: pip install 'saga-kafka[reactors]'")
    from services.checkout.reactors.analytics import analyse
    from services.checkout.reactors.notification import notify

    await (notify if name == "notification" else analyse)(stop)


if __name__ == "__main__":
    sys.exit(start())

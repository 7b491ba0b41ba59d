"""The checkout as a part of `services.all`: its services, a few of its orders over HTTP, and its own audit. Alone it is `demo.py`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import httpx

from services.stage.crew import ROOT
from services.stage.example import Example, free_address
from services.stage.findings import Finding

SERVICES = ("gateway", "order", "payment", "inventory", "shipping")
ORDERS = Path(__file__).parent / "orders.jsonl"


class Checkout(Example):
    """Orders, paid, reserved and shipped, or undone."""

    name, app = "checkout", "services:app"
    processes: ClassVar = {service: ("services.checkout", service) for service in SERVICES}

    def settings(self) -> dict[str, str]:
        self._order, gateway = free_address(), free_address()
        data = str(self.crew.folder / "data")
        return {"CHECKOUT_DATA": data, "CHECKOUT_ORDER_HTTP": self._order, "CHECKOUT_GATEWAY_HTTP": gateway}

    async def story(self) -> None:
        bodies = ORDERS.read_text(encoding="utf-8").splitlines()[: 12 if self.short else 60]
        self.say(f"{len(bodies)} orders are placed")
        async with httpx.AsyncClient(base_url=f"http://{self._order}", trust_env=False) as http:
            for number, body in enumerate(bodies):
                await self._place(http, body)
                if number == len(bodies) // 2:
                    self.under_way.set()
        await self.settled("checkout", len(bodies))

    async def _place(self, http: httpx.AsyncClient, body: str) -> None:
        """Asked again until there is an answer, which is safe, since the order has its id."""

        async def accepted() -> bool:
            try:
                answer = await http.post("/orders", content=body.encode(), headers={"Content-Type": "application/json"})
            except httpx.TransportError:
                return False
            return answer.is_success

        await self.until(accepted, lambda: "an order cannot be placed")

    async def audit(self) -> list[Finding]:
        """Its own audit, as a program of its own: it reads its settings from the environment as it starts."""
        command = [sys.executable, "-m", "services.checkout.audit", "--without-reactors"]
        ended = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=self.crew.environment, capture_output=True, text=True, check=False
        )
        lines = [line.strip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        return [Finding("every order has one outcome, and all books agree", lines if ended.returncode else [])]

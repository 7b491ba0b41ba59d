"""The whole checkout as processes, on a real Kafka or a file log, for tests that kill them. Each shop has its own topics and books."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from infra.broker.settings import free_ports
from saga.config import Config
from saga.connect import file_log, open_log
from saga.errors import Unavailable
from saga.log.base import StoredRecord, TopicPartition
from saga.log.file_threads import WriteLock
from saga.runtime.codec import JOURNAL
from saga.runtime.fold import Fold
from services import app
from services.checkout.books import read_outcomes
from services.checkout.settings import HERE, REACTORS, SERVICES
from services.stage.crew import ROOT, Crew

SETTLE_SECONDS = 120.0  # far longer than every retry of the checkout saga together
LOOK_SECONDS = 0.2


class Shop:
    """An async context: processes up on entry, gone on exit. `sessions`: after so many seconds a dead process is given up.

    `where`: the broker's host:port, or file:PATH. The reactors start only if they are asked for, which needs a broker.
    """

    def __init__(self, folder: Path, where: str, prefix: str, *, sessions: float = 2.0, reactors: bool = False) -> None:
        order, gateway, analytics = (f"127.0.0.1:{port}" for port in free_ports(3))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SAGA_", "CHECKOUT_"))}
        environment |= {
            "SAGA_LOG" if where.startswith("file:") else "SAGA_BOOTSTRAP": where,
            "SAGA_PREFIX": prefix,
            "SAGA_DEV": "1",
            "SAGA_SESSION_SECONDS": str(sessions),
            "SAGA_TIMEOUT_SECONDS": "5",
            "SAGA_SNAPSHOT_BYTES": "100000",
            "CHECKOUT_DATA": str(folder / "data"),
            "CHECKOUT_ORDER_HTTP": order,
            "CHECKOUT_GATEWAY_HTTP": gateway,
            "CHECKOUT_ANALYTICS_HTTP": analytics,
        }
        self.reactors = REACTORS if reactors else ()
        self.folder = folder
        self.environment = environment
        self.crew = Crew(folder, environment, keep=False)
        self.config = Config.read(environment)
        self.log = open_log(self.config, "test")
        self.placed: list[str] = []
        self._order = f"http://{order}"
        self._orders = iter((HERE / "orders.jsonl").read_text(encoding="utf-8").splitlines())
        self._started = 0

    async def __aenter__(self) -> Shop:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.log.open()
        try:
            assert self.crew.run("saga.cli", "topics", "apply") == 0
            for service in ("gateway", *SERVICES, *self.reactors):
                self.crew.start(service, "services.checkout", service)
            await self.until(self._order_answers, "the order service does not answer")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.crew.stop()
        await self.log.close()

    # --- processes --------------------------------------------------------------------------------------------------------------------

    def start_orchestrator(self, *arguments: str) -> str:
        """Start one more; its name. Its HTTP port is any free one."""
        self._started += 1
        name = f"orchestrator-{self._started}"
        self.crew.start(name, "saga.cli", "run", "--verbose", *arguments, SAGA_HTTP="127.0.0.1:0")
        return name

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.crew.pid(name), number)

    def pause(self, name: str) -> None:
        """SIGSTOP, at any moment but two: in its commit to a file log, or next in line for one, it would stop all others too."""
        folder = file_log(self.config)
        with WriteLock(folder).held(alone=True) if folder is not None else contextlib.nullcontext():
            self.signal(name, signal.SIGSTOP)
            os.waitid(os.P_PID, self.crew.pid(name), os.WSTOPPED | os.WNOWAIT)

    async def all_owned(self) -> None:
        """Until the orchestrators that live own all partitions."""

        async def owned() -> bool:
            return set(await self.owners()) == set(range(app.partitions))

        await self.until(owned, "not all partitions are owned")

    async def owners(self) -> dict[int, str]:
        """Who claimed each partition last."""
        found = {}
        for fold in await self.folds():
            if fold.owner:
                found[fold.partition.partition] = fold.owner
        return found

    # --- orders -----------------------------------------------------------------------------------------------------------------------

    async def place(self, count: int, **changes: Any) -> list[str]:
        """Place the next orders of the shipped file; asked again until each is accepted."""
        names = []
        async with httpx.AsyncClient(base_url=self._order, trust_env=False) as http:
            for _ in range(count):
                order = json.loads(next(self._orders)) | changes

                async def accepted(order: dict[str, Any] = order) -> bool:
                    try:
                        return (await http.post("/orders", json=order)).is_success
                    except httpx.TransportError:
                        return False

                await self.until(accepted, f"the order {order['order_id']} is not accepted")
                names.append(order["order_id"])
        self.placed += names
        return names

    async def settle(self) -> None:
        """Until every order that was placed has its outcome told."""

        async def settled() -> bool:
            return len(await read_outcomes(self.log, app.partitions)) >= len(self.placed)

        await self.until(settled, "an order has no outcome")

    def audit(self) -> None:
        """Read all the books; fail with the audit's own words."""
        argv = [sys.executable, "-m", "services.checkout.audit", *([] if self.reactors else ["--without-reactors"])]
        done = subprocess.run(argv, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def gateway(self, question: str) -> list[tuple[Any, ...]]:
        """Ask the gateway's own ledger."""
        with sqlite3.connect(self.folder / "data" / "gateway.db", timeout=10) as ledger:
            return ledger.execute(question).fetchall()

    async def until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while True:  # what is looked at are other processes
                    with contextlib.suppress(Unavailable):  # topics that were just made may have no leader yet
                        if await look():
                            return
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{what}, after {SETTLE_SECONDS:g} s") from None

    async def _order_answers(self) -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                return (await http.get(f"{self._order}/healthz")).is_success
            except httpx.TransportError:
                return False

    # --- the journal ------------------------------------------------------------------------------------------------------------------

    async def journal(self, number: int) -> list[StoredRecord]:
        tp = TopicPartition(JOURNAL, number)
        bounds = (await self.log.bounds([tp]))[tp]
        return [record async for lump in self.log.read(tp, bounds.start, bounds.end) for record in lump]

    async def folds(self) -> list[Fold]:
        """Every partition folded from its beginning: raises Corrupt if it breaks a rule."""
        folds = []
        for number in range(app.partitions):
            fold = Fold(TopicPartition(JOURNAL, number))
            for record in await self.journal(number):
                fold.feed(record)
            folds.append(fold)
        return folds

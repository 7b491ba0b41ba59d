"""A stage: one deployment of the bench's app on the broker, and the processes that play on it.

Each stage has topics of its own (a prefix), so measurements do not see each other's records. Its processes are the ones users run: the
orchestrator is `saga run`. They end with this process, whatever happens to it, and their folder goes with them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from bench.load import Load
from bench.shop import SERVICES, app
from infra.broker.settings import free_ports
from infra.process import halt, last_lines, spawn
from saga.config import Config
from saga.connect import opened
from saga.log.base import Log
from saga.topics import specs

ROOT = Path(__file__).parents[1]
READY_SECONDS = 60.0
POLL_SECONDS = 0.02
STOP_SECONDS = 20.0
PASSED_ON = ("log", "bootstrap", "prefix", "dev", "session_seconds")
FIRST_SAGAS = 64  # enough that every partition has had one


class StageFailed(Exception):
    """A process ended by itself or never got ready; the message has the end of its log."""


class Stage:
    """Use it as a context: its topics are made at the beginning, its processes are gone at the end."""

    def __init__(self, name: str, config: Config, folder: Path, profiled: str = "") -> None:
        """`config` names the log; `profiled` is the role whose processes leave a cProfile in `folder` when they end."""
        self.config = replace(config, prefix=f"{name}.")
        self.folder = folder / name
        self._profiled = profiled
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._http: dict[str, str] = {}
        self._client = httpx.AsyncClient(trust_env=False)
        self._loads = 0

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True)
        async with self.client() as log:
            await log.create(specs(app, replication=1, min_insync=1))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for role in list(self._running):
            await asyncio.to_thread(self.stop, role)
        await self._client.aclose()

    # --- processes --------------------------------------------------------------------------------------------------------------------

    def orchestrator(self, role: str = "orchestrator") -> None:
        """Start one, as a user does; `ready` tells when it runs."""
        self._http[role] = f"127.0.0.1:{free_ports(1)[0]}"
        self.start(role, "saga.cli", "run", "--app", "bench.shop:app", SAGA_HTTP=self._http[role])

    def services(self, processes: int = 1) -> None:
        """The five services with their databases, spread over so many processes."""
        for number in range(processes):
            self.start(f"services-{number + 1}", "bench.services", str(self.folder), *SERVICES[number::processes])

    def start(self, role: str, *module: str, **more: str) -> None:
        """Start `python -m <module> …` under a name; what it says goes to <role>.log."""
        settings = {f"SAGA_{name.upper()}": str(getattr(self.config, name)) for name in PASSED_ON}
        profile = (
            ["-m", "cProfile", "-o", str(self.folder.parent / f"{role}.prof")] if role.startswith(self._profiled or "-") else []
        )
        argv = [sys.executable, *profile, "-m", *module]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings, **more}
        self._running[role] = spawn(argv, log=self.folder / f"{role}.log", cwd=ROOT, env=environment)

    def stop(self, role: str) -> None:
        halt(self._running.pop(role), STOP_SECONDS)

    def kill(self, role: str) -> None:
        """SIGKILL, as a crash does it."""
        process = self._running.pop(role)
        process.kill()
        process.wait()

    def pids(self) -> Mapping[str, int]:
        """The processes of this stage, by role."""
        return {role: process.pid for role, process in self._running.items()}

    def check(self) -> None:
        """Raises StageFailed if a process has ended by itself."""
        for role, process in self._running.items():
            if process.poll() is not None:
                said = last_lines(self.folder / f"{role}.log")
                raise StageFailed(f"{role} ended with {process.returncode}; the end of its log:\n{said}")

    # --- what they say ----------------------------------------------------------------------------------------------------------------

    async def metrics(self, role: str = "orchestrator") -> str:
        """What /metrics of an orchestrator says now; "" if it does not answer yet."""
        try:
            return (await self._client.get(f"http://{self._http[role]}/metrics", timeout=READY_SECONDS)).text
        except httpx.TransportError:
            return ""

    async def ready(self, roles: Sequence[str] = ("orchestrator",)) -> None:
        """Return once these orchestrators run all partitions between them, each some. Raises StageFailed if one ends."""

        async def shared() -> bool:
            owned = [running(await self.metrics(role)) for role in roles]
            return all(owned) and sum(map(len, owned)) == app.partitions

        await self.until(shared, READY_SECONDS)

    async def until(self, true: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Return once `true()` is, which is asked again and again: what is waited for happens in other processes.

        Raises StageFailed if one of them ends by itself, TimeoutError after so many seconds.
        """
        async with asyncio.timeout(seconds):
            while not await true():
                self.check()
                await asyncio.sleep(POLL_SECONDS)

    # --- load -------------------------------------------------------------------------------------------------------------------------

    def client(self) -> AbstractAsyncContextManager[Log]:
        """A client of this stage's topics, open inside."""
        return opened(self.config, "bench")

    def load(self, log: Log) -> Load:
        """A load whose keys no other load of this stage has."""
        self._loads += 1
        return Load(log, f"order-{self._loads:02d}")

    async def first_sagas(self, log: Log) -> None:
        """Run a few sagas to their end: after it every process is in its groups, and every partition has been used."""
        async with asyncio.timeout(READY_SECONDS), self.load(log) as load:
            await load.steady(FIRST_SAGAS, 1.0)
        self.check()


def phases(metrics: str) -> dict[int, str]:
    """The partition numbers that an orchestrator owns, and the phase of each, by what /metrics says."""
    found = {}
    for line in metrics.splitlines():
        if line.startswith("saga_partition_phase{") and line.endswith(" 1.0"):
            found[int(line.partition('partition="')[2].partition('"')[0])] = line.partition('phase="')[2].partition('"')[0]
    return found


def running(metrics: str) -> set[int]:
    return {number for number, phase in phases(metrics).items() if phase == "running"}

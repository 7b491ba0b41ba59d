"""A real Prometheus, with the configuration and the alerts that are shipped, against a real orchestrator and real services.

All are processes, on a log in a folder. What is changed in the configuration is only how often it looks, and how long alerts wait.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.broker.settings import free_ports
from infra.prometheus import Prometheus
from services.checkout.settings import SERVICES
from tests.kafka.shop import Shop

SHIPPED = Path(__file__).parents[2] / "infra" / "prometheus"
pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

# What a run of ten orders, of which some are compensated, must have counted.
POSITIVE = (
    "saga_started_total",
    "saga_finished_total",
    "saga_duration_seconds_count",
    "saga_step_duration_seconds_count",
    "saga_step_attempts_total",
    "saga_deadline_seconds",
    "saga_claims_total",
    "saga_journal_append_seconds_count",
    "saga_journal_commit_inputs_count",
    "saga_restore_seconds_count",
    "saga_partition_phase",
    "participant_commands_total",
    "participant_command_seconds_count",
    "process_resident_memory_bytes",
)
# What is there, and is 0 once all is decided.
PRESENT = (
    "saga_live",
    "saga_oldest_live_seconds",
    "saga_oldest_waiting_seconds",
    "saga_compensation_failed_total",
    "saga_input_lag_records",
    "saga_input_lag_seconds",
    "saga_timer_lag_seconds",
    "saga_restore_remaining_records",
    "saga_snapshot_age_seconds",
    "saga_ownership_lost_total",
    "saga_forwarded_total",
    "saga_invariant_violations_total",
    "participant_duplicates_total",
    "participant_outbox_age_seconds",
    "participant_unsettled_calls",
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A copy of what is shipped, in a hurry."""
    folder = tmp_path / "prometheus"
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    main, alerts = folder / "prometheus.yml", folder / "alerts.yml"
    main.write_text(re.sub(r"_interval: 15s", "_interval: 1s", main.read_text()))
    alerts.write_text(re.sub(r"(?m)^        for: \w+$", "        for: 0s", alerts.read_text()))
    return folder


def test_prometheus_sees_every_series_and_an_alert_that_fires(config: Path, promtool: str, tmp_path: Path) -> None:
    asyncio.run(watch(config, promtool, tmp_path))


async def watch(config: Path, promtool: str, folder: Path) -> None:
    http, *others, port = free_ports(len(SERVICES) + 2)
    orchestrator, participants = f"127.0.0.1:{http}", [f"127.0.0.1:{each}" for each in others]
    targets = config / "targets"
    (targets / "orchestrators.yml").write_text(json.dumps([{"targets": [orchestrator]}]))
    (targets / "participants.yml").write_text(json.dumps([{"targets": participants}]))
    shop = Shop(folder / "shop", f"file:{folder / 'log'}", "t-")
    addresses = dict(zip(SERVICES, participants, strict=True))
    async with shop, asking(port) as ask:
        for name, address in addresses.items():  # again, where we can find them
            shop.signal(name, signal.SIGTERM)
            shop.crew.take(name).wait()
            shop.crew.start(name, "services.checkout", name, SAGA_PARTICIPANT_HTTP=address)
        shop.crew.start("orchestrator", "saga.cli", "run", SAGA_HTTP=orchestrator)
        with Prometheus(config / "prometheus.yml", folder / "data", port):
            await ask.until(lambda: ask.value("sum(up)"), 1 + len(SERVICES), "not all processes are scraped")
            await ask.until(ask.firing, set(), "alerts fire where nothing is wrong")
            await shop.place(10)
            await shop.settle()
            await ask.until(lambda: ask.value("sum(saga_started_total)"), 10, "not all orders were counted")
            await ask.until(lambda: ask.value("sum(saga_live)"), 0, "some orders are still live")
            assert await ask.value("sum(saga_finished_total)") == 10
            assert await ask.value('sum(participant_commands_total{command="other"})') in (None, 0)
            for name in POSITIVE:
                assert (await ask.value(f"sum({name})") or 0) > 0, f"{name} was not counted"
            for name in PRESENT:
                await ask.until(partial(ask.exists, name), True, f"there is no {name}")  # some come with the next look around
            assert await ask.value('count({__name__=~"saga_.*", saga="other"}) or vector(0)') == 0
            assert await ask.firing() == set(), "alerts fire where nothing is wrong"
            await conventions(promtool, [orchestrator, *participants])

            shop.crew.kill("orchestrator")
            await ask.until(ask.firing, {"OrchestratorDown"}, "nobody was told that the orchestrator is gone")


async def conventions(promtool: str, addresses: list[str]) -> None:
    """What promtool says of the pages themselves."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for address in addresses:
            assert (await http.get(f"http://{address}/healthz")).status_code == 200
            assert (await http.get(f"http://{address}/readyz")).status_code == 200
            page = (await http.get(f"http://{address}/metrics")).content
            command = [promtool, "check", "metrics"]
            done = await asyncio.to_thread(subprocess.run, command, input=page, capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, (done.stdout + done.stderr).decode()


class Ask:
    """Asks Prometheus by its HTTP API."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def value(self, query: str) -> float | None:
        """The value of a query with one answer; None if there is none."""
        found = await self._get("/api/v1/query", query=query)
        return float(found["result"][0]["value"][1]) if found["result"] else None

    async def exists(self, name: str) -> bool:
        return await self.value(f"count({name})") is not None

    async def firing(self) -> set[str]:
        found = await self._get("/api/v1/alerts")
        return {alert["labels"]["alertname"] for alert in found["alerts"] if alert["state"] == "firing"}

    async def until(self, look: Callable[[], Awaitable[object]], wanted: object, what: str) -> None:
        found: object = None
        try:
            async with asyncio.timeout(60):
                while True:  # what is looked at is another process
                    if (found := await look()) == wanted:
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"{what}: {found}, not {wanted}") from None

    async def _get(self, path: str, **query: str) -> Any:
        answer = await self._http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[Ask]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        yield Ask(http)

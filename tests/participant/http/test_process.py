"""A participant by configuration as a process of its own: killed with -9 after the charge, it charges once; on two logs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from infra.process import halt, spawn
from saga.cloudevents import header_fields
from saga.config import Config
from saga.connect import open_log
from saga.log.base import Log, Outgoing, StoredRecord, TopicPartition, TopicSpec
from tests.participant.http.card_api import SECRET, CardApi
from tests.participant.kit import Ids, TakePayment, command, data, eventually, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[3]
COMMANDS, EVENTS = TopicPartition("payment.commands", 0), TopicPartition("payment.events", 0)
TOML = """
name = "payment"

[api]
base = "${CARD_API}"
headers = { Authorization = "Bearer ${CARD_TOKEN}" }

[[call]]
command = "TakePayment"
request = "POST /charges"
answers = [{ status = [200, 201], is = "done" }, { status = 402, is = "PaymentDeclined", fields = { why = "/error/message" } }]
"""
PROGRAM = """
from saga import App, HttpParticipant, Store
from saga.participate import serve
from tests.participant.kit import PaymentDeclined, TakePayment

payment = HttpParticipant.read("card.toml", messages=[TakePayment, PaymentDeclined])
app = App(sagas=[], participants=[payment], begin="earliest")

if __name__ == "__main__":
    serve({payment: Store("sqlite:///payment.db")})
"""


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Which log, in the words of the environment."""
    known = {"SAGA_DEV": "1", "SAGA_SESSION_SECONDS": "6"}
    if request.param == "file":
        return known | {"SAGA_LOG": f"file:{tmp_path / 'log'}"}
    bootstrap = request.getfixturevalue("broker").bootstrap
    return known | {"SAGA_BOOTSTRAP": bootstrap, "SAGA_PREFIX": f"card-{uuid4().hex[:8]}."}


class Service:
    """The program in its folder; may be started again and again."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")}
        self.environment |= settings | {"PYTHONPATH": str(ROOT), "SAGA_LOGS": "json"}
        (folder / "card.toml").write_text(TOML, encoding="utf-8")
        (folder / "service.py").write_text(PROGRAM, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        log = self._folder / "service.log"
        self._process = spawn([sys.executable, "service.py"], log=log, cwd=self._folder, env=self.environment)
        return self._process

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        halt(self._process, 15, how)
        return self._process.returncode

    @property
    def told(self) -> str:
        return (self._folder / "service.log").read_text(encoding="utf-8")


@asynccontextmanager
async def opened(settings: dict[str, str]) -> AsyncIterator[Log]:
    log = open_log(Config.read(settings), "test")
    await log.open()
    try:
        await log.create([TopicSpec(topic, 1) for topic in ("payment.commands", "payment.events", "saga.deadletter")])
        yield log
    finally:
        await log.close()


async def answers(log: Log, command_id: str, count: int) -> list[StoredRecord]:
    """The answers to a command, once there are so many."""
    found: list[StoredRecord] = []

    async def look() -> bool:
        nonlocal found
        held = (await log.bounds([EVENTS]))[EVENTS]
        found = [each async for lump in log.read(EVENTS, held.start, held.end) for each in lump]
        found = [each for each in found if header_fields(each.headers)["sagacommand"] == command_id]
        return len(found) >= count

    await eventually(look, lambda: f"{count} answers to {command_id}")
    return found


@pytest.mark.slow
def test_killed_after_the_charge_it_charges_once(settings: dict[str, str], tmp_path: Path) -> None:
    async def story() -> None:
        ids = Ids("o-1")
        async with CardApi() as api, opened(settings) as log:
            api.next("charge", "hang")
            service = Service(tmp_path, settings | {"CARD_API": api.base, "CARD_TOKEN": SECRET})
            try:
                service.start()
                await log.publish([Outgoing(COMMANDS, command(TakePayment(order_id="o-1", amount=7), ids))])
                await api.until("charge")
                assert await asyncio.to_thread(service.end, signal.SIGKILL) == -signal.SIGKILL
                service.start()
                (reply,) = await answers(log, ids.command(), 1)
                assert (outcome(reply), data(reply)) == ("done payment.taken.v1", {"payment_id": "ch_1", "amount": 7})
                assert [asked.key for asked in api.asked] == [ids.command()] * 2
                assert len(api.charged) == 1
            finally:
                code = await asyncio.to_thread(service.end)
            assert code == 0, service.told
        assert SECRET not in service.told

    asyncio.run(story())


def test_the_client_is_loaded_only_to_run_and_its_absence_is_told() -> None:
    program = """
import asyncio, sys
import saga, saga.participant.http
assert "httpx" not in sys.modules
sys.modules["httpx"] = None
card = saga.HttpParticipant("card", saga.participant.http.Api("https://api.example.com"), [])
async def run():
    async with card.running(): pass
try:
    asyncio.run(run())
except saga.Misconfigured as told:
    print(told)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("'card' talks HTTP: pip install 'saga-kafka[http]'")


@pytest.mark.slow
@pytest.mark.parametrize(("token", "told"), [("", "CARD_TOKEN is empty or not set"), (f"{SECRET}\r\nX: y", "a line break")])
def test_without_its_secret_the_program_ends_with_a_line(tmp_path: Path, token: str, told: str) -> None:
    settings = {"SAGA_LOG": f"file:{tmp_path / 'log'}", "CARD_API": "https://api.example.com", "CARD_TOKEN": token}

    async def story() -> None:
        async with opened(settings):
            service = Service(tmp_path, settings)
            service.start()
            assert service._process is not None
            assert await asyncio.to_thread(service._process.wait, 20) == 1
            assert "payment stops: Misconfigured: " in service.told
            assert told in service.told
            assert SECRET not in service.told
            assert "Traceback" not in service.told

    asyncio.run(story())

"""A process of participants: what it tells over HTTP, and what it counts."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from saga import Command, Event, Misconfigured, Participant, Store, Work
from saga.config import Config
from saga.log.base import TopicSpec
from saga.log.file import FileLog
from saga.metrics import ParticipantMetrics
from saga.participate import participate


class Done(Event, type="echo.done.v1"):
    pass


class Say(Command[Done], service="echo"):
    pass


def echo() -> Participant:
    made = Participant("echo")

    @made.handles(Say)
    def say(_cmd: Say, _work: Work) -> Done:
        return Done()

    return made


def test_a_process_of_participants_tells_how_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "saga.participant")

    async def scene() -> None:
        config, stop = Config(log=f"file:{tmp_path / 'log'}"), asyncio.Event()
        log = FileLog(tmp_path / "log", client_id="test")
        await log.open()
        await log.create([TopicSpec(name, 2) for name in ("echo.commands", "echo.events", "saga.deadletter")])
        await log.close()
        store = Store(f"sqlite:///{tmp_path / 'echo.db'}")
        working = asyncio.create_task(participate({echo(): store}, config, stop))
        try:
            async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as http:
                while not (said := re.search(r"echo on (http://127\.0\.0\.1:\d+)", caplog.text)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                while (answer := await http.get(f"{said[1]}/readyz")).status_code != 200:
                    assert answer.json() == {"ready": False, "participants": {"echo": False}}
                    await asyncio.sleep(0.01)
                assert answer.json() == {"ready": True, "participants": {"echo": True}}
                assert (await http.get(f"{said[1]}/healthz")).status_code == 200
                page = await http.get(f"{said[1]}/metrics")
                assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
                assert "participant_outbox_age_seconds 0.0\n" in page.text
        finally:
            stop.set()
            await working
            store.close()

    asyncio.run(scene())


def test_an_address_that_cannot_be_had_names_its_setting(tmp_path: Path) -> None:
    async def scene() -> None:
        config = Config(log=f"file:{tmp_path / 'log'}", participant_http="8080")
        await participate({}, config, asyncio.Event())

    with pytest.raises(Misconfigured, match="SAGA_PARTICIPANT_HTTP must be host:port, not '8080'"):
        asyncio.run(scene())


PROGRAM = """
from saga import Participant, Store
from saga.participate import serve

serve({Participant("echo"): Store("sqlite:///echo.db")})
"""


def program(folder: Path, **settings: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")} | settings
    line = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_of_one_line_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    with program(tmp_path, SAGA_LOG="file:log") as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert "metrics and health of echo on http://127.0.0.1:" in first
        process.send_signal(number)
        assert process.wait(30) == 0, process.stderr.read()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SAGA_LOG": "folder"}, "echo stops: SAGA_LOG='folder' is neither"),
        (
            {"SAGA_LOG": "file:log", "SAGA_PARTICIPANT_HTTP": "8080"},
            "echo stops: Misconfigured: SAGA_PARTICIPANT_HTTP must be host:port",
        ),
        ({"SAGA_BOOTSTRAP": "127.0.0.1:1", "SAGA_TIMEOUT_SECONDS": "1"}, "echo stops: Unavailable: "),
    ],
)
def test_a_program_that_cannot_serve_says_why_in_a_line(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with program(tmp_path, **settings) as process:
        _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said in error
    assert "Traceback" not in error


def test_commands_are_counted_under_names_that_are_known() -> None:
    metrics = ParticipantMetrics({"echo", Say.__type__})
    metrics.on_command("echo", Say.__type__, "done", 0.02)
    metrics.on_command("echo", Say.__type__, "done", 0.02)
    metrics.on_command("echo", "x" * 100, "unreadable", 0.02)
    metrics.on_dead_letter("echo", "no-type")
    metrics.on_duplicate("echo")
    metrics.on_begun("echo", 3)

    def count(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert count("participant_commands_total", service="echo", command=Say.__type__, result="done") == 2
    assert count("participant_commands_total", service="echo", command="other", result="unreadable") == 1
    assert count("participant_command_seconds_count") == 3
    assert count("participant_duplicates_total") == 1
    assert count("participant_unsettled_calls") == 3
    assert count("saga_deadletter_total", topic="echo.commands", reason="no-type") == 1


def test_an_outbox_that_nobody_looks_at_grows_older() -> None:
    """While the log is away the outbox is not looked at: it is told once, and must not look fresh for ever."""
    metrics = ParticipantMetrics({"a", "b"})

    def age() -> float:
        found = metrics.registry.get_sample_value("participant_outbox_age_seconds")
        assert found is not None
        return found

    assert age() == 0
    metrics.on_outbox_age("a", 7.0)
    metrics.on_outbox_age("b", 1.0)
    first = age()
    assert first >= 7
    since = time.monotonic()
    while time.monotonic() == since:  # the clock's next tick
        pass
    assert age() > first
    metrics.on_outbox_age("a", 0.0)
    assert 1 <= age() < 7
    metrics.on_outbox_age("b", 0.0)
    assert age() == 0

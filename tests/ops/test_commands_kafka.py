"""The real commands, each its own process, on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from saga.log.base import Outgoing, Record, TopicPartition
from saga.log.kafka import KafkaLog
from saga.log.partition import home
from saga.ops.look import History, Journals
from tests.conftest import SessionBroker
from tests.ops import shop as s
from tests.ops.shop import ended, parked

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
ODD = "o:2 <script>é"


class Commands:
    """Runs `saga …` against a broker, under a prefix of its own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"ops-{uuid4().hex[:6]}."
        self.environment = os.environ | {
            "SAGA_BOOTSTRAP": bootstrap,
            "SAGA_PREFIX": self.prefix,
            "SAGA_DEV": "1",
            "SAGA_HTTP": "127.0.0.1:0",
            "SAGA_SESSION_SECONDS": "6",
            "SAGA_SNAPSHOT_BYTES": "2000",
        }

    def run(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            self._line(*arguments), cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=90, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments)
        assert code in (0, 3), err
        return json.loads(out)

    @contextmanager
    def orchestrator(self, app: str) -> Iterator[None]:
        process = subprocess.Popen(self._line("run", "--app", f"tests.ops.shop:{app}"), cwd=ROOT, env=self.environment)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, "saga run did not end in order"

    def _line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "saga.cli", *arguments]


class World:
    """The services and the customers, on a thread of their own while the commands run."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> World:
        self._thread.start()
        self._log = self.do(self._open())
        self._working = asyncio.run_coroutine_threadsafe(s.Participants(self._log, {}, pause=0.0).run(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._working.cancel()
        self.do(self._log.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(90)

    async def _open(self) -> KafkaLog:
        log = KafkaLog(self._commands.bootstrap, prefix=self._commands.prefix)
        await log.open()
        return log

    def place(self, *keys: str) -> None:
        self.do(s.place(self._log, *keys))

    def say(self, key: str, value: bytes) -> None:
        to = TopicPartition("order.events", home(key, s.PARTITIONS))
        self.do(self._log.publish([Outgoing(to, Record(key.encode(), value, (("ce_type", b"order.placed.v1"),)))]))

    def until(self, key: str, true: Any) -> None:
        self.do(self._until(key, true))

    async def _until(self, key: str, true: Any) -> None:
        async with asyncio.timeout(60):
            found: list[History] = []
            while not any(map(true, found)):
                found = await Journals(self._log).histories(key)
                await asyncio.sleep(0.1)  # as often as a person would look, but faster


def test_the_commands_of_an_operator(broker: SessionBroker) -> None:
    saga = Commands(broker.bootstrap)
    topics = saga.json("topics", "apply", "--app", "tests.ops.shop:app", "-o", "json")
    assert {topic["state"] for topic in topics} == {"created"}
    assert saga.run("topics", "check", "--app", "tests.ops.shop:app")[0] == 0
    with World(saga) as world:
        with saga.orchestrator("broken_app"):
            world.place("o-1", ODD, "o-3")
            for key in ("o-1", ODD, "o-3"):
                world.until(key, parked)
            check_looking(saga)
            code, out, _ = saga.run("retry", "o-1", "--why", "try", "--who", "anna")
            assert code == 3
            assert out.startswith("shop o-1 parked: it parked again: its own code raised at pay: KeyError: 'payment_ref' (shop.py:")
        with saga.orchestrator("app"):
            check_retrying(saga)
            check_deadletters(saga, world)
            for key in ("o-1", ODD, "o-3"):
                world.until(key, ended)
        code, out, _ = saga.run("show", "o-1")
        assert code == 0
        assert "retry by anna: try" in out
        assert "✓ completed after" in out
        assert saga.run("why", "o-1")[0] == 0
        check_replaying(saga)
        world.place("o-4")
        code, out, err = saga.run("why", "o-4", "--app", "tests.ops.shop:app")
        assert (code, out) == (1, "")
        assert "; its order.placed.v1 is in order.events:" in err, "nobody runs, and it says so"


def check_looking(saga: Commands) -> None:
    code, out, err = saga.run("list")
    assert code == 0
    assert out.count("KeyError") == 3
    assert "3 parked" in err
    assert "\x1b" not in out, "no colours in a pipe"
    assert len(saga.json("list", "--saga", "shop", "--limit", "1", "-o", "json")) == 1
    code, out, _ = saga.run("why", ODD)
    assert code == 3
    assert out.startswith(f"shop {ODD} has been parked for ")
    (shown,) = saga.json("show", ODD, "-o", "json")
    assert [decision["cause"] for decision in shown["decisions"]] == ["order says order.placed.v1", "payment says payment.taken.v1"]
    lines = saga.run("show", ODD, "-o", "jsonl")[1].splitlines()
    assert [json.loads(line)["decision"]["seq"] for line in lines] == [1, 2]
    for unknown in (("show", "a\nb"), ("why", "a\nb"), ("retry", "a\nb", "--why", "x"), ("show", "o-1", "--saga", "other")):
        code, out, err = saga.run(*unknown)
        assert (code, out) == (1, "")
        assert "there is no instance" in err
    assert saga.run("retry", "--saga", "shop", "--yes")[0] == 2, "who retries says why"
    assert saga.run("retry")[0] == 2
    assert saga.run("list", "--older", "soon")[0] == 2


def check_retrying(saga: Commands) -> None:
    code, out, err = saga.run("retry", "--saga", "shop", "--reason", "user-code", "--step", "pay")
    assert code == 0
    assert out.count("KeyError") == 3
    assert "3 would be retried; nothing was done" in err
    assert {row["state"] for row in saga.json("list", "-o", "json")} == {"parked"}, "a dry run changes nothing"
    answers = saga.json("retry", "--saga", "shop", "--reason", "user-code", "--yes", "--why", "fixed", "--rate", "20", "-o", "json")
    assert {answer["came"] for answer in answers} == {"retried"}
    assert sorted(answer["key"] for answer in answers) == ["o-1", "o-3", ODD]


def check_deadletters(saga: Commands, world: World) -> None:
    world.say("bad", b"{")
    end = time.monotonic() + 60
    while not (aside := saga.json("deadletters", "--key", "bad", "-o", "json")) and time.monotonic() < end:
        pass
    (one,) = aside
    assert (one["reason"], one["value"]) == ("json", "{")
    assert "its order.placed.v1 was set aside as a dead letter" in saga.run("why", "bad")[2]
    assert saga.run("deadletters", one["at"], "--redrive", "--yes")[0] == 0
    while len(saga.json("deadletters", "--key", "bad", "-o", "json")) < 2 and time.monotonic() < end:
        pass
    first, again = saga.json("deadletters", "--key", "bad", "-o", "json")
    assert int(again["origin"].split(":")[2]) > int(first["origin"].split(":")[2]), "it came from where it was published again"


def check_replaying(saga: Commands) -> None:
    code, out, err = saga.run("replay", "-o", "json")
    assert code == 0, err
    rows = json.loads(out)
    assert [row["problem"] for row in rows] == [None] * s.PARTITIONS
    assert sum(row["instances"].get("completed", 0) for row in rows) == 3
    assert any(row["snapshots"] and row["restored_from"] for row in rows), "no snapshot was written, so none was compared"
    assert "byte for byte, no difference" in saga.run("replay")[2]
    (shown,) = saga.json("show", "o-1", "-o", "json")
    seen = {decision["decision"]["seq"]: (decision["decision"]["instance"], decision["offset"]) for decision in shown["decisions"]}
    instance, offset = seen[2]  # the payment was taken, and its own code raised
    (row,) = saga.json("replay", "--until", f"{instance}#2", "-o", "json")
    assert (row["instance"]["state"], row["partition"]) == ("parked", shown["decisions"][0]["partition"])
    assert offset < row["ends"] < rows[row["partition"]]["ends"], "it did not stop where it was told to"
    assert saga.run("replay", "--until", f"{instance}#99")[0] == 1

"""What a handler logs by itself says which command it works on, whatever thread it runs in; what failed says it too."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from saga import Command, Event, Participant, Work
from saga.logs import Json
from services.checkout.process import Service
from tests.services.shop import desk

logger = logging.getLogger("tests.echo")


class Done(Event, type="echo.done.v1"):
    pass


class InThread(Command[Done], service="echo"):
    pass


class OnLoop(Command[Done], service="echo"):
    pass


class Called(Command[Done], service="echo"):
    pass


class Fails(Command[Done], service="echo"):
    pass


echo = Participant("echo")


@echo.handles(InThread)
def in_thread(_cmd: InThread, _work: Work) -> Done:
    logger.info("in a thread")
    return Done()


@echo.handles(OnLoop)
async def on_loop(_cmd: OnLoop, _work: Work) -> Done:
    logger.info("on the loop")
    return Done()


def call(_cmd: Called, _work: Work) -> int:
    logger.info("in a call")
    return 1


@echo.handles(Called, calls=call)
def called(_cmd: Called, _work: Work, _made: int) -> Done:
    logger.info("after a call")
    return Done()


@echo.handles(Fails)
def fails(_cmd: Fails, _work: Work) -> Done:
    raise RuntimeError("never")


def test_a_handlers_own_lines_say_which_command_they_are_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tests.echo")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)  # it writes where a line is logged, as a process's own does
    handler.setFormatter(Json())
    root = logging.getLogger()
    root.addHandler(handler)

    async def scene() -> None:
        async with desk(Service(echo, MetaData()), tmp_path) as service:
            for number, command in enumerate((InThread(), OnLoop(), Called(), Fails())):
                await service.ask(command, f"k:{number}", step=f"step-{number}")

    try:
        asyncio.run(scene())
    finally:
        root.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    said = {line["message"]: (line["saga"], line["key"], line["step"], len(line["trace"])) for line in lines if "key" in line}
    assert said["in a thread"] == ("checkout", "k:0", "step-0", 32)
    assert said["on the loop"] == ("checkout", "k:1", "step-1", 32)
    assert said["in a call"] == ("checkout", "k:2", "step-2", 32)
    assert said["after a call"] == ("checkout", "k:2", "step-2", 32)
    failures = [fields for message, fields in said.items() if "try " in message]
    assert failures, "nobody said that a handler failed"
    assert set(failures) == {("checkout", "k:3", "step-3", 32)}

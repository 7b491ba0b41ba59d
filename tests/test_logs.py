"""What a process says: a JSON line for each event, with the instance it is about, and nothing that is private."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Column, MetaData, String, Table, insert
from sqlalchemy.exc import IntegrityError

from saga import Event, Misconfigured, Store
from saga.config import Config
from saga.logs import PASSING_SECONDS, Command, Json, Text, _Passing, about, working_on

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def said(formatter: logging.Formatter, tell: Callable[[logging.Logger], None]) -> str:
    """What is written when `tell` logs, by a logger of its own that nobody else hears."""
    stream, logger = io.StringIO(), logging.Logger("shop")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    tell(logger)
    return stream.getvalue()


def line(tell: Callable[[logging.Logger], None]) -> dict[str, Any]:
    written = said(Json(), tell)
    assert written.count("\n") == 1, f"an event is not one line: {written!r}"
    parsed: dict[str, Any] = json.loads(written)
    return parsed


def test_an_event_is_one_json_line() -> None:
    told = line(lambda logger: logger.warning("two\nlines and %s", "ünïcode"))
    assert told.pop("time").endswith("Z")
    assert told == {"level": "warning", "logger": "shop", "message": "two\nlines and ünïcode"}


def test_a_line_about_an_instance_says_which() -> None:
    told = line(lambda logger: logger.info("parked", extra=about("checkout", "order-7", "pay", TRACE)))
    assert {name: told[name] for name in ("saga", "key", "step", "trace")} == {
        "saga": "checkout",
        "key": "order-7",
        "step": "pay",
        "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


def test_what_a_handler_logs_by_itself_says_which_command_it_works_on() -> None:
    token = working_on.set(Command("checkout:a%3Ab:mb2k9x1c:pay:compensate~2", "a:b", TRACE))
    try:
        told = line(lambda logger: logger.info("hello"))
    finally:
        working_on.reset(token)
    assert (told["saga"], told["key"], told["step"]) == ("checkout", "a:b", "pay")
    assert "key" not in line(lambda logger: logger.info("later")), "a line speaks of a command that is over"


def test_an_error_is_in_its_line() -> None:
    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("it failed")

    told = line(fail)
    assert told["message"] == "it failed"
    assert told["error"].endswith("ValueError: no")
    assert said(Text(), fail).endswith("ValueError: no\n")


def test_text_for_people_has_the_same_fields() -> None:
    told = said(Text(), lambda logger: logger.info("parked", extra=about("checkout", "order-7")))
    assert told.endswith("INFO shop: parked saga=checkout key=order-7\n")


def test_what_passes_by_itself_is_told_only_when_it_lasts() -> None:
    passing, record = (
        _Passing(),
        logging.makeLogRecord({"name": "aiokafka.cluster", "msg": "Topic x not found in cluster metadata"}),
    )
    shown = []
    for second in range(int(PASSING_SECONDS) + 2):
        record.created = 1000.0 + second
        shown.append(passing.filter(record))
    assert shown == [False] * (int(PASSING_SECONDS) + 1) + [True]
    record.created += 10 * PASSING_SECONDS
    assert not passing.filter(record), "a new start is another matter"
    assert passing.filter(logging.makeLogRecord({"name": "aiokafka.cluster", "msg": "Heartbeat failed"}))


def test_a_process_writes_json_unless_a_terminal_reads_or_text_is_asked_for() -> None:
    """In a process of its own, since how it logs is the whole process's."""
    program = (
        "import logging, sys; from saga.logs import set_up; set_up(sys.argv[1], 'info'); logging.info('x'); logging.debug('y')"
    )

    def wrote(kind: str) -> str:
        return subprocess.run([sys.executable, "-c", program, kind], capture_output=True, text=True, check=True).stderr

    assert json.loads(wrote(""))["message"] == "x"
    assert wrote("text").endswith("INFO root: x\n")


@pytest.mark.parametrize(("name", "text"), [("SAGA_LOGS", "xml"), ("SAGA_LOGS_LEVEL", "loud")])
def test_a_setting_of_logs_that_does_not_exist_is_refused(name: str, text: str) -> None:
    with pytest.raises(Misconfigured, match=f"{name}='{text}' is none of"):
        Config.read({name: text})


class Secret(Event, type="shop.secret.v1"):
    number: int


def test_errors_of_libraries_do_not_tell_private_values(tmp_path: Path) -> None:
    """They end in logs, and in the reasons that a reply tells: a card number must not be among them."""
    with pytest.raises(ValidationError) as invalid:
        Secret.model_validate({"number": "4111-1111"})
    tables = MetaData()
    cards = Table("cards", tables, Column("number", String, primary_key=True))
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", tables=tables)
    try:
        with store.begin() as connection:
            connection.execute(insert(cards).values(number="4111-1111"))
            with pytest.raises(IntegrityError) as twice:
                connection.execute(insert(cards).values(number="4111-1111"))
    finally:
        store.close()
    assert "4111" not in str(invalid.value)
    assert "4111" not in str(twice.value)

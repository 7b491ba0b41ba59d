"""The commands of an operator as they are typed, on a file log with an orchestrator that runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from saga.cli import cli
from saga.cloudevents import CloudEvent
from saga.config import Config
from saga.connect import open_log
from saga.errors import Misconfigured
from saga.log.base import Outgoing, TopicPartition
from saga.log.partition import home
from saga.ops.edits import merged, passed_over, require_fields

ROOT = Path(__file__).parents[2]
APP = ("--app", "tests.ops.office:app")
WHO = ("--why", "the form says so", "--who", "anna")
PATIENCE = 30.0  # seconds until an orchestrator has decided a start


class Saga:
    """Types a command."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self._runner = CliRunner(env=settings)

    def __call__(self, *arguments: str) -> Result:
        return self._runner.invoke(cli, arguments)


@pytest.fixture(scope="module")
def saga(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saga]:
    """An orchestrator runs meanwhile."""
    settings = {"SAGA_LOG": f"file:{tmp_path_factory.mktemp('office')}/log", "SAGA_HTTP": "127.0.0.1:0", "SAGA_DEV": "1"}
    typed = Saga(settings)
    assert typed("topics", "apply", *APP).exit_code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "saga.cli", "run", *APP], cwd=ROOT, env=os.environ | settings, stderr=subprocess.DEVNULL
    )
    try:
        yield typed
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, "saga run did not end in order"


def started(saga: Saga, *keys: str, amount: int = 5) -> None:
    """Forms come in, and each asks for its approval."""
    for key in keys:
        data = json.dumps({"order_id": key, "amount": amount})
        assert saga("publish", "refunds.asked.v1", data, *APP).exit_code == 0
    end = time.monotonic() + PATIENCE
    while (missing := [key for key in keys if saga("why", key).exit_code]) and time.monotonic() < end:
        pass
    assert not missing, f"nobody decided the start of {missing}"


def said(done: Result) -> tuple[int, str]:
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done.exit_code, done.stdout.strip()


def test_a_question_is_listed_answered_once_and_by_the_right_role(saga: Saga) -> None:
    started(saga, "q-1")
    listed = [one for one in json.loads(saga("questions", *APP, "--role", "finance", "-o", "json").stdout) if one["key"] == "q-1"]
    assert [(one["saga"], one["step"], one["roles"], one["answer"]) for one in listed] == [
        ("form", "approval", ["finance"], "office.verdict.v1")
    ]
    assert saga("questions", *APP, "--role", "cfo", "-o", "json").stdout == "[]\n", "it was not escalated yet"
    asked = saga("questions", *APP)
    assert "form q-1 approval finance in " in " ".join(asked.stdout.split())
    (line,) = [line for line in asked.stderr.splitlines() if " approval " in line]
    assert line == """  saga answer q-1 approval '{"ok": true}' --role finance --saga form --why "…\""""
    assert json.loads(saga("questions", *APP, "-o", "json").stdout)[0]["line"] == line.strip()
    wrong = said(saga("answer", "q-1", "approval", '{"ok": true}', "--role", "cfo", *WHO))
    assert wrong == (3, "form q-1 refused: approval is answered by the role finance, not by cfo")
    assert said(saga("answer", "q-1", "approval", '{"yes": 1}', "--role", "finance", *WHO)) == (
        3,
        "form q-1 refused: ok: Field required",
    )
    assert said(saga("answer", "q-1", "approval", '{"ok": true}', "--role", "finance", *WHO)) == (
        0,
        "form q-1 answered: it goes on",
    )
    assert said(saga("answer", "q-1", "approval", '{"ok": true}', "--role", "finance", *WHO)) == (
        3,
        "form q-1 refused: approval does not wait any more",
    )
    answers = json.loads(saga("signal", "q-1", "carrier.picked.v1", '{"order_id": "q-1"}', *WHO, "-o", "json").stdout)
    assert answers == [{"saga": "form", "key": "q-1", "came": "signalled", "detail": "it ended"}]
    shown = saga("show", "q-1", *APP).stdout
    assert "answer to approval as finance by anna: the form says so" in shown
    assert "signal carrier.picked.v1 by anna: the form says so" in shown
    nobody = said(saga("answer", "q-9", "approval", "{}", "--role", "finance", *WHO))
    assert nobody == (1, "")


def test_schedules_are_left_alone_unless_they_are_named_and_go_on_as_long_as_the_app_has_them(saga: Saga) -> None:
    started(saga, "s-1")
    assert "report-nightly" in saga("list", *APP, "--limit", "0").stdout
    shown = saga("cancel", "--older", "1ms", *APP)
    assert "s-1" in shown.stdout
    assert "report-nightly" not in shown.stdout
    code, out = said(saga("cancel", "--saga", "report-nightly", "--yes", *WHO, *APP))
    assert (code, "the app has this schedule" in out) == (3, True), out


def test_what_is_published_under_a_key_that_is_there_or_with_a_field_that_is_not_is_told(saga: Saga) -> None:
    def publish(**more: object) -> list[str]:
        data = {"order_id": "p-1", "amount": 5, **more}
        done = saga("publish", "refunds.asked.v1", json.dumps(data), *APP)
        assert "refunds.asked.v1 is in refunds.events, for " in said(done)[1]
        return [line for line in done.stderr.splitlines() if "refund p-1" not in line]

    there = (
        "saga: form p-1 is there already: its data again changes nothing, other data is refused; see `saga show p-1 --saga form`"
    )
    assert publish() == []
    started(saga, "p-1")
    assert publish(amout=7) == [
        "saga: RefundAsked has no 'amout'; is 'amount' meant? It was published, and this is passed over.",
        there,
    ]
    nothing = saga("publish", "nope", "{}", *APP)
    assert "saga.scheduled.v1" not in str(nothing.exception), "that is for orchestrators to say"


def test_a_drawing_says_where_an_instance_stands(saga: Saga, tmp_path: Path) -> None:
    started(saga, "g-1")
    drawn = saga("graph", "form", "--key", "g-1", *APP).stdout
    assert re.search(r"\d  approval .*\n    … waiting\n", drawn), drawn
    assert "form g-1 waits for the answer" in drawn
    assert saga("graph", "form", "--key", "g-1", *APP, "--out", str(tmp_path / "g.svg")).exit_code == 0
    assert 'class="step is-now"' in (tmp_path / "g.svg").read_text(encoding="utf-8")
    assert saga("graph", "form", "--key", "nobody", *APP).exit_code == 1
    assert isinstance(saga("graph", "form", "--key", "g-1", *APP, "-f", "dot").exception, Misconfigured)


def test_a_list_says_what_is_waited_for(saga: Saga) -> None:
    started(saga, "w-1")
    saga("answer", "w-1", "approval", '{"ok": true}', "--role", "finance", *WHO)
    started(saga, "w-2")

    def waiting(for_: str) -> set[str]:
        rows = json.loads(saga("list", *APP, "--waits", for_, "--limit", "0", "-o", "json").stdout)
        return {row["key"] for row in rows} & {"w-1", "w-2"}

    assert (waiting("event"), waiting("answer"), waiting("time")) == ({"w-1"}, {"w-2"}, set())
    table = saga("list", *APP).stdout
    assert "answer of finance, due in " in table
    assert "carrier.picked.v1, due in " in table


def test_what_is_parked_is_edited_resumed_skipped_or_told_why_not(saga: Saga) -> None:
    started(saga, "e-1", amount=0)
    answered = said(saga("answer", "e-1", "approval", '{"ok": true}', "--role", "finance", *WHO))
    assert answered[0] == 3
    raised = "its own code raised at approval: ZeroDivisionError: integer division or modulo by zero (office.py:"
    assert answered[1].startswith(f"form e-1 parked: it parked: {raised}")
    assert '"e-1"' not in saga("questions", *APP, "-o", "json").stdout, "it is answered; what it waits for is an operator"
    assert said(saga("skip", "e-1", "picked", "--nothing", *WHO))[0] == 3, "picked is not stuck"
    nowhere = saga("answer", "e-1", "verdict", '{"ok": true}', "--role", "finance", *WHO)
    assert str(nowhere.exception) == "form e-1 asks nothing at 'verdict'; it does at approval"
    code, out = said(saga("edit", "e-1", "--set", "amount=many", *WHO))
    assert (code, out) == (
        3,
        "form e-1 refused: amount: Input should be a valid integer, unable to parse string as an integer",
    )
    wrong = saga("edit", "e-1", "--set", "amont=1", *WHO, *APP)
    assert isinstance(wrong.exception, Misconfigured)
    assert str(wrong.exception) == "Refund has no 'amont'; is 'amount' meant?", "its class is at hand: nothing is sent"
    lost = "form e-1 unchanged: its data has no amont; nothing is changed, and it is still parked"
    assert said(saga("edit", "e-1", "--set", "amont=1", *WHO)) == (3, lost), "without its class, what was decided is told"
    lost = "form e-1 edited in part: its data has no note; the rest is changed, and it is still parked"
    assert said(saga("edit", "e-1", "--set", "amount=49", "--set", "note.by=anna", *WHO)) == (3, lost)
    same = "form e-1 unchanged: its data's class makes of it what it was; nothing is changed, and it is still parked"
    assert said(saga("edit", "e-1", "--set", 'amount="49"', *WHO)) == (3, same)
    edited = saga("edit", "e-1", "--set", "amount=50", *WHO, *APP)
    assert said(edited) == (0, "form e-1 edited: its data is changed; it is still parked")
    assert "amount 49 → 50" in edited.stderr
    assert isinstance(saga("edit", "e-1", "--set", "amount=50", *WHO).exception, Misconfigured), "it changes nothing"
    assert said(saga("signal", "e-1", "office.verdict.v1", '{"ok": true}', *WHO)) == (
        3,
        "form e-1 kept: it is parked; this waits its turn, until an operator lets it go on",
    )
    assert said(saga("resume", "e-1", *WHO)) == (0, "form e-1 resumed: it goes on")
    assert said(saga("resume", "e-1", *WHO)) == (3, "form e-1 refused: it is not parked but running")
    assert said(saga("edit", "e-1", "--set", "amount=1", *WHO))[0] == 3, "data is edited only while it is parked"
    assert said(saga("cancel", "e-1", *WHO)) == (0, "form e-1 cancelled: it ended")
    assert said(saga("cancel", "e-1", *WHO)) == (3, "form e-1 refused: it has ended")
    assert "because it was cancelled (anna: the form says so)" in saga("why", "e-1").stdout


def test_many_are_only_shown_until_somebody_says_yes(saga: Saga) -> None:
    started(saga, "m-1", "m-2")
    shown = saga("cancel", "--saga", "form", "--step", "approval")
    assert shown.exit_code == 0
    assert "would be cancelled; nothing was done. To do it: --yes --why TEXT" in shown.stderr
    assert {"m-1", "m-2"} <= set(shown.stdout.split())
    assert isinstance(saga("cancel", "--step", "approval", "--yes").exception, Misconfigured), "who does it says why"
    done = saga("compensate", "--step", "approval", "--yes", *WHO, "-o", "jsonl")
    came = {answer["key"]: answer["came"] for answer in map(json.loads, done.stdout.splitlines())}
    assert (came["m-1"], came["m-2"]) == ("compensating", "compensating")
    assert "because an operator had it compensated (anna: the form says so)" in saga("why", "m-1").stdout
    assert "no live instance fits; nothing to do" in saga("cancel", "--step", "approval", "--yes", *WHO).stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--saga", "fom"), r"--saga fom: there is none; known are .*\bform, .*"),
        (("--step", "aproval"), r"--step aproval: there is none; known are .*\bapproval, .*"),
        (("--saga", "form", "--step", "close"), "--step close: there is none; known are approval, picked"),
        (("--reason", "bug"), "--reason bug: there is none; known are compensation, contradiction, .*"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_name_that_nobody_knows_is_no_good_news(options: tuple[str, ...], told: str, saga: Saga) -> None:
    started(saga, "n-1")
    for command in (("list",), ("cancel", "--yes", *WHO)):
        done = saga(*command, *options)
        assert isinstance(done.exception, Misconfigured), done.output
        assert re.fullmatch(told, str(done.exception))
    assert saga("list", "--step", "approval/7", "--reason", "late").exit_code == 0, "known, and there is none"
    assert isinstance(saga("questions", "--saga", "fom", *APP).exception, Misconfigured)


def test_what_is_kept_for_a_start_is_no_instance_yet(saga: Saga) -> None:
    asyncio.run(picked(saga, "k-1"))
    end = time.monotonic() + PATIENCE
    while not (early := json.loads(saga("list", *APP, "--state", "early", "-o", "json").stdout)) and time.monotonic() < end:
        pass
    assert [(one["key"], one["state"]) for one in early] == [("k-1", "early")]
    assert "early form k-1" in " ".join(saga("list", *APP, "--state", "all").stdout.split())
    assert "not started yet; 1 event waits for its start (carrier.picked.v1), until " in saga("why", "k-1").stdout
    done = saga("cancel", "k-1", *WHO)
    assert done.exit_code == 3
    assert "form k-1 is not started yet" in done.stderr


async def picked(saga: Saga, key: str) -> None:
    """A carrier says so, too early."""
    log = open_log(Config.read(saga.settings), "carrier", make=False)
    await log.open()
    event = CloudEvent("carrier.picked.v1", key, "carrier", {"order_id": key}, subject=key)
    await log.publish([Outgoing(TopicPartition("carrier.events", home(key, 2)), event.record(key.encode()))])
    await log.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("cancel",), "say which: a KEY, or --saga"),
        (("cancel", "o-1"), "say why"),
        (("skip", "o-1", "pay", "--nothing", "--result", "{}", *WHO), "say one of them"),
        (("skip", "o-1", "pay", "--result", "{", *WHO), "--result is not JSON"),
        (("edit", "o-1", *WHO), "say what is to change"),
        (("edit", "o-1", "--set", "total", *WHO), "a place and a value"),
        (("signal", "o-1", "a.b.v1", "nope", *WHO), "the data is not JSON"),
        (("answer", "o-1", "approval", "{}", "--role", "finance"), "say why"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_before_anything_is_read(wrong: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(cli, wrong)
    assert isinstance(done.exception, Misconfigured), f"{wrong}: {done.output}"
    assert told in str(done.exception)


def test_one_value_of_the_data_is_set_at_its_place() -> None:
    data: dict[str, Any] = {"total": 1, "lines": [{"sku": "a"}, {"sku": "b"}], "address": {"city": "Rom"}}
    assert merged(data, "total", 2) == {**data, "total": 2}
    assert merged(data, "lines.1.sku", "c")["lines"] == [{"sku": "a"}, {"sku": "c"}]
    assert merged(data, "lines.0", None)["lines"] == [None, {"sku": "b"}]
    assert merged(data, "address.zip", "0")["address"] == {"city": "Rom", "zip": "0"}
    assert merged(data, "notes.by", "anna")["notes"] == {"by": "anna"}
    assert data["address"] == {"city": "Rom"}, "what was read is not changed in place"
    for path in ("lines.7", "total.x", "lines.x", ""):
        with pytest.raises(Misconfigured, match="no such place"):
            merged(data, path, 1)


class Address(BaseModel):
    city: str
    zip: int = 0


class Order(BaseModel):
    lines: list[Address] = []
    notes: dict[str, str] = {}


def test_a_place_that_the_class_passes_over_is_told_with_the_one_that_is_meant() -> None:
    require_fields(Order, {"lines": [{"city": "Rome", "zip": "5"}], "notes": {"any": "thing"}})
    require_fields(Order, {"lines": "not valid: the engine says so", "liness": []})
    for data, told in (
        ({"nots": {}}, "Order has no 'nots'; is 'notes' meant?"),
        ({"lines": [{"city": "Rome"}, {"city": "Rome", "zipp": 5}]}, "Order has no 'zipp' at lines.1; is 'zip' meant?"),
        ({"qqq": 1}, "Order has no 'qqq'"),
    ):
        with pytest.raises(Misconfigured) as caught:
            require_fields(Order, data)
        assert str(caught.value) == told
    assert list(passed_over({"a": {"b": 1}, "c": 1}, {"a": {"x": 1}, "c": 2})) == [("a.b", ["x"])]

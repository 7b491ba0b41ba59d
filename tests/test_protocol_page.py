"""docs/PROTOCOL.md is true: its tables are those of the code, its headers those of real records, its kcat commands do what they say."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from saga.cloudevents import CloudEvent, header_fields
from saga.engine.policy import COMPENSATE_RETRY, DEFAULT_REMEMBER, DEFAULT_RETRY, DEFAULT_TIMEOUT, VERIFY_RETRY
from saga.engine.state import Action
from saga.log.base import StoredRecord
from saga.log.partition import home, murmur2
from saga.participant.command import Address, read_address
from saga.participant.inbox import ARRIVAL, SETTLED, Do, State
from saga.participant.settings import Settings
from tests.conftest import SessionBroker
from tests.kafka.shop import Shop
from topics.headers import COMMAND, MEANING, REPLY
from topics.payment import PaymentTaken
from topics.values import Money

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "PROTOCOL.md").read_text("utf-8")


def table(first_cell: str) -> list[list[str]]:
    """The rows of the page's table whose header begins with this cell, without code marks."""
    lines = PAGE.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(f"| {first_cell} |")]
    assert len(starts) == 1, f"there are {len(starts)} tables that begin with {first_cell!r}"
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip().removeprefix("|").removesuffix("|").split("|")])
    assert rows
    return rows


def code(first_cell: str) -> list[str]:
    """The words in code marks in the first column of a table."""
    lines = PAGE[PAGE.index(f"| {first_cell} |") :].split("\n\n")[0].splitlines()[2:]
    return [word for line in lines for word in re.findall(r"`([^`]+)`", line.split("|")[1])]


# --- tables ---------------------------------------------------------------------------------------------------------------------------

ACTIONS = (Action.EXECUTE, Action.COMPENSATE, Action.VERIFY)  # the columns
SAID = {
    Do.RUN: "run",
    Do.AGAIN: "say it again",
    Do.TELL: "say what was done",
    Do.NOTHING: "say nothing",
    Do.CLOSE: "close, say nothing",
}


def test_what_to_do_with_a_command_is_what_the_kit_does() -> None:
    wanted = [[name(state), *(SAID[ARRIVAL[action][state]] for action in ACTIONS)] for state in State]
    assert table("the execute's row") == wanted


def test_what_the_row_becomes_is_what_the_kit_makes_of_it() -> None:
    columns = [
        (Action.EXECUTE, State.DONE),
        (Action.EXECUTE, State.REFUSED),
        (Action.COMPENSATE, State.DONE),
        (Action.COMPENSATE, State.NOTHING),
        (Action.VERIFY, State.DONE),
        (Action.VERIFY, State.NOTHING),
    ]
    wanted = []
    for state in (State.ABSENT, State.BEGUN, State.CLOSING, State.DONE):
        runs = {action: ARRIVAL[action][state] is Do.RUN for action in Action}
        wanted.append([name(state), *(str(SETTLED.get((a, state, answer), state)) if runs[a] else "" for a, answer in columns)])
    assert table("the execute's row before") == wanted


def name(state: State) -> str:
    return "(absent)" if state is State.ABSENT else str(state)


def test_the_headers_of_a_command_are_those_it_has() -> None:
    assert code("header")[: len(COMMAND.required) + len(COMMAND.optional)] == [
        header for header in MEANING if header in {*COMMAND.required, *COMMAND.optional}
    ]


def test_the_headers_of_an_answer_are_those_that_the_kit_writes() -> None:
    command = CloudEvent(
        "payment.take_payment.v1",
        "x:1",
        "saga",
        {},
        "2026-01-31T12:00:00Z",
        "k",
        {
            "sagainstance": "a:k:1",
            "sagacommand": "a:k:1:pay:execute",
            "sagaaction": "execute",
            "sagaattempt": "1",
            "traceparent": "t",
        },
    ).record(b"k")
    record = StoredRecord("payment.commands", 4, 17, 0, command.key, command.value, command.headers)
    address = read_address(record, header_fields(record.headers), "payment")
    assert isinstance(address, Address)
    taken = PaymentTaken(order_id="k", payment_id="p", amount=Money(minor=1, currency="EUR"))
    done, failed = address.settled("done", taken, 0), address.failed("broke", 0)
    for answer in (done, failed, address.settled("nothing", None, 0), address.expired("old", 0)):
        assert [header for header, _ in answer.record.headers if header not in REPLY.required + REPLY.optional] == []
        assert sorted(header for header, _ in answer.record.headers) == sorted(code("header of the answer"))
        assert (answer.topic, answer.partition) == ("payment.events", 4)
    ids = {row[0]: row[4] for row in table("outcome")}
    assert dict(done.record.headers)["ce_id"].decode() == ids["done"].replace("<command id>", address.command_id)
    made = ids["failed"].partition("<command id>")[2].partition(" of the command")[0]
    for part, text in (("<topic>", "payment.commands"), ("<partition>", "4"), ("<offset>", "17")):
        made = made.replace(part, text)
    assert dict(failed.record.headers)["ce_id"].decode() == address.command_id + made


def test_the_numbers_are_the_defaults() -> None:
    said = re.sub(r"\s+", " ", PAGE)
    numbers: Sequence[str] = (
        f"an attempt has {DEFAULT_TIMEOUT.seconds} s.",
        f"{DEFAULT_RETRY.attempts} attempts of an execute, {COMPENSATE_RETRY.attempts} of a compensate and {VERIFY_RETRY.attempts} of a",
        f"begin at {DEFAULT_RETRY.first.total_seconds():g} s and double, up to {DEFAULT_RETRY.longest.seconds} s",
        f"as long as it is remembered ({DEFAULT_REMEMBER.days} days)",
        f"you remember {Settings().retention.days} days (the kit does)",
    )
    assert [number for number in numbers if number not in said] == []
    assert (DEFAULT_RETRY.factor, DEFAULT_TIMEOUT) == (2.0, timedelta(seconds=30))


def test_the_homes_of_keys_are_right() -> None:
    for key, hashed, partition in table("key"):
        assert (murmur2(key.encode()) & 0x7FFFFFFF, home(key, 16)) == (int(hashed), int(partition))


def test_reasons_and_notes_are_words_that_the_code_says() -> None:
    source = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "saga").rglob("*.py")))
    reasons, notes = code("reason"), code("note")
    assert len(reasons) > 10
    assert len(notes) >= 5
    assert [word for word in (*reasons, *notes) if f'"{word}"' not in source] == []
    raised = set(re.findall(r'(?:Unreadable|DeadLetter)\(\s*"([a-z-]+)"', source))
    participants = {"no-address", "unknown-type", "action", "subject", "time"}
    inner = {"body"}  # of an API's answer, in HttpParticipant: it becomes no dead letter
    assert raised - participants - inner <= set(reasons), "a reason that the page does not explain"
    assert participants <= set(re.findall(r"`([a-z-]+)`", PAGE))


# --- kcat -----------------------------------------------------------------------------------------------------------------------------

BLOCK = re.compile(r"```sh\n(.*?)```(?:\n```text\n(.*?)```)?", re.DOTALL)
MISSING = [tool for tool in ("kcat", "curl", "bash") if shutil.which(tool) is None]
with_kcat = pytest.mark.skip(reason=f"not installed: {MISSING}") if MISSING else pytest.mark.kafka


class Shell:
    """A bash for each block. Topics get this shop's prefix."""

    def __init__(self, shop: Shop) -> None:
        self._prefix = shop.environment["SAGA_PREFIX"]
        self._environment = os.environ | {"B": shop.environment["SAGA_BOOTSTRAP"], "ORDER": shop.environment["CHECKOUT_ORDER_HTTP"]}

    def run(self, block: str) -> str:
        script = re.sub(r"-t (?=[a-z])", f"-t {self._prefix}", block)
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr


def pattern(text: str) -> re.Pattern[str]:
    """What a shown output stands for: `…` is anything."""
    return re.compile(".*?".join(re.escape(part) for part in text.strip().split("…")))


@with_kcat
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_examples_with_kcat_do_what_the_page_shows(tmp_path: Path, broker: SessionBroker) -> None:
    blocks = [(found[1], found[2]) for found in BLOCK.finditer(PAGE[PAGE.index("## By hand, with kcat") :])]
    assert ".demo/env" in blocks.pop(0)[0], "the first block says where Kafka is, which `Shell` knows"
    assert sum(shown is not None for _, shown in blocks) >= 4, "hardly an example was found"

    async def scene() -> None:
        async with Shop(tmp_path / "shop", broker.bootstrap, f"t{uuid4().hex[:8]}-") as s:
            s.crew.kill("payment")  # it is played by hand
            s.start_orchestrator()
            await s.all_owned()
            shell = Shell(s)
            for block, shown in blocks:
                said = ""

                async def as_shown(block: str = block, shown: str | None = shown) -> bool:
                    nonlocal said
                    said = await asyncio.to_thread(shell.run, block)
                    prefixless = said.replace(s.environment["SAGA_PREFIX"], "")
                    return shown is None or pattern(shown).fullmatch(prefixless.strip()) is not None

                try:
                    await s.until(as_shown, block)
                except AssertionError:
                    raise AssertionError(f"$ {block}\nshould say\n{shown}\nbut says\n{said}") from None
                assert shown is not None or "ERROR" not in said.upper(), said

    asyncio.run(scene())

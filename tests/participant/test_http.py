"""An HTTP API as a participant, against a real server that misbehaves: charged exactly once, and never a false fact."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from saga.cloudevents import header_fields
from saga.errors import Misconfigured
from saga.log.base import StoredRecord
from saga.participant import Settings
from saga.participant.http import Api, Call, First, HttpParticipant, again, done, nothing, refused
from saga.participant.inbox import State
from saga.participant.store import wall_clock
from tests.participant.card_api import SECRET, CardApi
from tests.participant.conftest import Drive
from tests.participant.kit import (
    FindPayment,
    Ids,
    Payment,
    PaymentDeclined,
    ReturnPayment,
    TakePayment,
    World,
    command,
    data,
    eventually,
    outcome,
    put,
)

HASTY = timedelta(seconds=0.5)  # for an API that hangs; a slow machine only makes it ask once more
QUICK = Settings(first_retry=timedelta(milliseconds=5))
TAKE = TakePayment(order_id="o-1", amount=7)
GIVE, FIND = ReturnPayment(order_id="o-1"), FindPayment(order_id="o-1")
Story = Callable[[World, CardApi], Awaitable[None]]

CAPTURED = done(200, where={"/status": "captured"})
CHARGE = Call(
    TakePayment,
    "POST",
    "/charges",
    [done(200, 201), refused(PaymentDeclined, 402, fields={"why": "/error/message"})],
)
REFUND = Call(
    ReturnPayment,
    "POST",
    "/charges/{subject_id}/refunds",
    [done(200, 201)],
    first=First("POST", "/charges/{subject_id}/void", [CAPTURED, nothing(200, where={"/status": "voided"})]),
)
ASK = Call(
    FindPayment,
    "GET",
    "/charges/{subject_id}",
    [CAPTURED, again(200, where={"/status": "pending"}), nothing(404, where={"/error/code": "unknown_charge"})],
    late=timedelta(seconds=1.5),
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """SQLite only: what a database does with the kit is tested without HTTP."""
    return f"sqlite:///{tmp_path / 'payment.db'}"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what must have no effect: a proxy where nobody answers."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("CARD_TOKEN", SECRET)


class Card(Payment):
    """The payment service of the kit's tests, done by configuration."""

    def __init__(self, api: CardApi, calls: list[Call] | None = None, **settings: Any) -> None:
        super().__init__()
        known: dict[str, Any] = {
            "headers": {"Authorization": "Bearer ${CARD_TOKEN}"},
            "timeout": timedelta(seconds=20),
            "reason": "/error/message",
        }
        self.participant = HttpParticipant("payment", Api(api.base, **known | settings), calls or [CHARGE, REFUND])


def tell(drive: Drive, story: Story) -> None:
    async def told(world: World) -> None:
        async with CardApi() as api:
            await story(world, api)
            await world.close()  # before the API goes, which waits for its callers

    drive(told)


def reason(reply: StoredRecord) -> str:
    assert outcome(reply) == "failed saga.failed.v1"
    return str(data(reply)["reason"])


def test_a_command_is_a_request_and_its_answer_the_reply(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        await world.start(Card(api))
        await world.send(command(TAKE, ids))
        reply = await world.reply(ids.command())
        assert (outcome(reply), data(reply)) == ("done payment.taken.v1", {"payment_id": "ch_1", "amount": 7})
        (asked,) = api.asked
        assert (asked.method, asked.path, asked.key) == ("POST", "/v1/charges", ids.command())
        assert asked.body == {"order_id": "o-1", "amount": 7}
        assert asked.headers["authorization"] == f"Bearer {SECRET}"
        assert asked.headers["traceparent"] == header_fields(reply.headers)["traceparent"]
        assert asked.headers["accept-encoding"] == "identity"

        await world.send(command(TAKE, ids, attempt=2))
        again = await world.reply(ids.command(), 2)
        assert (again.value, again.headers) == (reply.value, reply.headers), "the stored bytes"
        assert len(api.asked) == 1, "an answered command is not asked again"

    tell(drive, story)


def test_a_written_refusal_is_a_refusal(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        await world.start(Card(api))
        await world.send(command(TakePayment(order_id="o-1", amount=5_000), ids))
        reply = await world.reply(ids.command())
        assert (outcome(reply), data(reply)) == ("refused payment.declined.v1", {"why": "too much"})

    tell(drive, story)


@pytest.mark.parametrize("manner", ["cut", "500", "500 after all", "hang", "late", "drip", "409", "202", "503 for a second"])
def test_what_may_pass_is_asked_again_under_the_same_key_and_charges_once(drive: Drive, manner: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", manner)
        await world.start(Card(api, timeout=HASTY), QUICK)
        await world.send(command(TAKE, ids))
        reply = await world.reply(ids.command())
        assert (outcome(reply), data(reply)) == ("done payment.taken.v1", {"payment_id": "ch_1", "amount": 7})
        assert len(api.of("charge")) >= 2
        assert {asked.key for asked in api.of("charge")} == {ids.command()}
        assert len(api.charged) == 1

    tell(drive, story)


@pytest.mark.parametrize(
    ("manner", "told"),
    [
        ("huge", "larger than 262144 bytes"),
        ("no JSON", "cannot be used"),
        ("twice", "cannot be used"),
        ("wrong schema", "no PaymentTaken can be made of it: amount: Input should be a valid integer"),
        ("empty", "no PaymentTaken can be made of it: payment_id: Field required"),
        ("zipped", "it is compressed"),
    ],
)
def test_a_success_that_cannot_be_read_is_no_fact(drive: Drive, manner: str, told: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", manner)
        await world.start(Card(api), QUICK)
        await world.send(command(TAKE, ids))
        said = reason(await world.reply(ids.command()))
        assert said.startswith("POST /charges was answered 201")
        assert told in said
        assert len(api.of("charge")) == 1, "it says the same again; the saga decides"
        assert (await world.row(ids.command())).state is State.BEGUN, "what it did is not known here"
        assert any(line.levelno == logging.ERROR and told in line.getMessage() for line in caplog.records), "loudly"

        await world.send(command(TAKE, ids, attempt=2))
        assert outcome(await world.reply(ids.command(), 2)) == "done payment.taken.v1"
        assert len(api.charged) == 1

    tell(drive, story)


@pytest.mark.parametrize(
    ("manner", "told"),
    [
        ("400", "POST /charges was answered 400 (no such amount; you sent …)"),
        ("401", "POST /charges was answered 401 (Bearer … is nobody)"),
        ("redirect", "POST /charges was answered 307; redirects are not followed: write the address it leads to"),
        ("a proxy's 402", "POST /charges was answered 402, and its body cannot be used"),
        ("declined", "POST /charges was answered 200, but no PaymentTaken"),
    ],
)
def test_what_will_not_pass_fails_at_once_with_a_reason(drive: Drive, manner: str, told: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", manner)
        await world.start(Card(api), QUICK)
        await world.send(command(TAKE, ids))
        assert reason(await world.reply(ids.command())).startswith(told)
        assert len(api.asked) == 1
        assert api.charged == {}

    tell(drive, story)


def test_an_api_that_is_not_there_fails_after_the_tries_and_is_asked_when_it_is_back(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        async with CardApi() as gone:
            pass
        process = await world.start(Card(gone), QUICK)
        await world.send(command(TAKE, ids))
        assert reason(await world.reply(ids.command())).startswith("Unavailable: POST /charges was not answered: ConnectError")
        await process.end()
        await world.start(Card(api), QUICK)
        await world.send(command(TAKE, ids, attempt=2))
        assert outcome(await world.reply(ids.command(), 2)) == "done payment.taken.v1"

    tell(drive, story)


def test_no_secret_is_in_a_reply_or_a_line_of_the_log(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story(world: World, api: CardApi) -> None:
        card = Card(api)
        await world.start(card, QUICK)
        for number, manner in enumerate(["500", "400", "401", "cut", "no JSON", "huge"]):
            ids = Ids(f"o-{number}")
            api.next("charge", *[manner] * 3)
            await world.send(command(TAKE, ids))
            assert SECRET.encode() not in (await world.reply(ids.command())).value  # type: ignore[operator]
        assert SECRET not in repr(card.participant.api)  # type: ignore[attr-defined]

    tell(drive, story)
    ours = [line for line in caplog.records if line.name.startswith("saga")]
    assert ours
    assert not [line for line in caplog.records if SECRET in line.getMessage() + str(line.exc_text)]


# --- crashes


@pytest.mark.parametrize("manner", ["hang", "late"])
def test_a_process_that_dies_after_the_charge_charges_once(drive: Drive, manner: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", manner)
        process = await world.start(Card(api))
        await world.send(command(TAKE, ids))
        await api.until("charge")
        assert len(api.charged) == (1 if manner == "hang" else 0)
        await process.crash()
        assert (await world.row(ids.command())).state is State.BEGUN
        await world.start(Card(api))
        reply = await world.reply(ids.command())
        assert (outcome(reply), data(reply)) == ("done payment.taken.v1", {"payment_id": "ch_1", "amount": 7})
        assert [asked.key for asked in api.of("charge")] == [ids.command()] * 2
        assert len(api.charged) == 1

    tell(drive, story)


def test_a_process_that_dies_after_the_refund_gives_back_once(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("refund", "hang")
        process = await world.start(Card(api))
        await world.send(command(TAKE, ids), command(GIVE, ids, "compensate"))
        await api.until("refund")
        await process.crash()
        await world.start(Card(api))
        reply = await world.reply(ids.command("compensate"))
        assert (outcome(reply), data(reply)) == ("done payment.returned.v1", {"amount": 7})
        assert [each["amount"] for each in api.refunds.values()] == [7]
        keys = [asked.key for asked in api.asked]
        undo = ids.command("compensate")
        assert keys == [ids.command(), f"{undo}:first", undo, f"{undo}:first", undo], (
            "each request has a key of its own, always the same"
        )

    tell(drive, story)


# --- compensations and verifies


def test_what_was_never_asked_for_leaves_a_tombstone_without_a_request(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        first, second = Ids("o-1"), Ids("o-2")
        await world.start(Card(api, [CHARGE, REFUND, ASK], timeout=HASTY))
        await world.send(command(GIVE, first, "compensate"), command(FIND, second, "verify"))
        for ids, action in ((first, "compensate"), (second, "verify")):
            assert outcome(await world.reply(ids.command(action))) == "nothing saga.nothing.v1"
            await world.send(command(TAKE, ids))
            assert outcome(await world.reply(ids.command())) == "nothing saga.nothing.v1", "the late command is not executed"
        assert api.asked == []

    tell(drive, story)


def test_a_compensation_closes_the_key_first_so_a_charge_on_its_way_comes_to_nothing(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", "late")
        await world.start(Card(api, timeout=HASTY), Settings(tries=1))
        await world.send(command(TAKE, ids))
        assert reason(await world.reply(ids.command())) == "Unavailable: POST /charges was not answered within 0.5 s"
        await world.send(command(GIVE, ids, "compensate"))
        assert outcome(await world.reply(ids.command("compensate"))) == "nothing saga.nothing.v1"
        api.released.set()  # now the charge that was only slow is worked on
        await eventually(api.quiet, lambda: "the late charge to be worked on")
        assert (api.charged, api.refunds) == ({}, {})
        assert ids.command() in api.closed
        await world.send(command(TAKE, ids, attempt=2))
        assert outcome(await world.reply(ids.command(), 2)) == "nothing saga.nothing.v1"

    tell(drive, story)


def test_a_compensation_of_a_charge_that_nobody_heard_of_gives_it_back(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", "500 after all")
        await world.start(Card(api), Settings(tries=1))
        await world.send(command(TAKE, ids))
        assert "answered 500" in reason(await world.reply(ids.command()))
        await world.send(command(GIVE, ids, "compensate"))
        assert data(await world.reply(ids.command("compensate"))) == {"amount": 7}
        assert len(api.refunds) == 1

    tell(drive, story)


@pytest.mark.parametrize(("before", "answered"), [("500 after all", "done payment.taken.v1"), ("500", "nothing saga.nothing.v1")])
def test_a_verify_asks_once_nothing_can_come_late(drive: Drive, before: str, answered: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", *[before] * 3)
        await world.start(Card(api, [CHARGE, ASK], timeout=HASTY), QUICK)
        await world.send(command(TAKE, ids))
        await world.reply(ids.command())
        await world.send(command(FIND, ids, "verify"))
        began = asyncio.get_running_loop().time()
        assert outcome(await world.reply(ids.command("verify"))) == answered
        assert asyncio.get_running_loop().time() - began >= 1.5, "late= was waited for, before the question"
        assert {asked.key for asked in api.of("find")} == {""}, (
            "a question has no key: the answer to the last one may be kept under it"
        )
        await world.send(command(TAKE, ids, attempt=2))
        assert outcome(await world.reply(ids.command(), 2)) == answered, "the execute is settled, too"

    tell(drive, story)


@pytest.mark.parametrize("manner", ["pending", "declined", "a proxy's 404", "500"])
def test_a_verify_that_gets_no_clear_answer_says_neither_yes_nor_no(drive: Drive, manner: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        await world.put(ids.command(), State.BEGUN)
        api.next("find", *[manner] * 3)
        await world.start(Card(api, [CHARGE, ASK], timeout=HASTY), QUICK)
        await world.send(command(FIND, ids, "verify"))
        assert "GET /charges/{subject_id} was answered" in reason(await world.reply(ids.command("verify")))
        assert (await world.row(ids.command())).state is State.BEGUN

    tell(drive, story)


def test_nothing_is_not_said_of_what_was_done(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        await world.start(Card(api), QUICK)
        await world.send(command(TAKE, ids))
        await world.reply(ids.command())
        api.charged.clear()
        await world.send(command(GIVE, ids, "compensate"))
        assert "nothing there, but" in reason(await world.reply(ids.command("compensate")))

    tell(drive, story)


def test_a_key_that_the_api_may_have_forgotten_is_not_used_again(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        hour = 3_600_000
        old, fresh = Ids("o-1", started=wall_clock() - 30 * hour), Ids("o-2", started=wall_clock() - 30 * hour)
        await world.store.run(lambda connection: put(connection, old.command(), State.BEGUN, None, wall_clock() - 25 * hour))
        await world.start(Card(api))
        await world.send(command(TAKE, old), command(TAKE, fresh))
        reply = await world.reply(old.command())
        assert outcome(reply) == "expired saga.expired.v1"
        assert "25.0 h ago, and the API remembers keys for 24 h" in data(reply)["reason"]
        assert outcome(await world.reply(fresh.command())) == "done payment.taken.v1", "it was never asked for: no key to forget"
        await world.send(command(GIVE, fresh, "compensate"))
        assert outcome(await world.reply(fresh.command("compensate"))) == "expired saga.expired.v1", "its first try may be long ago"
        assert list(api.charged) == [fresh.command()]

    tell(drive, story)


# --- limits


def test_a_pause_that_the_api_asks_for_holds_back_all_within_limits(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        first, second = Ids("o-1"), Ids("o-2")
        api.next("charge", "429 for a year")
        await world.start(Card(api), QUICK)
        await world.send(command(TAKE, first))
        assert "was not sent: the API asked for a pause, of which 60 s are left" in reason(await world.reply(first.command()))
        await world.send(command(TAKE, second))
        assert "was not sent" in reason(await world.reply(second.command()))
        assert len(api.asked) == 1

    tell(drive, story)


def test_no_more_requests_at_once_than_written(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        all = [Ids(f"o-{number}") for number in range(12)]
        api.next("charge", *["hang"] * 3)
        await world.start(Card(api, connections=3))
        await world.send(*(command(TAKE, ids) for ids in all))
        await api.until("charge", 3)
        api.released.set()
        for ids in all:
            assert outcome(await world.reply(ids.command())) == "done payment.taken.v1"
        assert api.most_at_once == 3

    tell(drive, story)


@pytest.mark.parametrize("key", ["a/../b?c#d", "Zürich 100%", "x" * 400])
def test_any_key_asks_for_its_own_charge_and_no_other(drive: Drive, key: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids(key)
        api.next("charge", *["500 after all"] * 3)
        await world.start(Card(api, [CHARGE, ASK], timeout=HASTY), QUICK)
        await world.send(command(TAKE, ids))
        await world.reply(ids.command())
        await world.send(command(FIND, ids, "verify"))
        assert outcome(await world.reply(ids.command("verify"))) == "done payment.taken.v1"
        (charged,) = api.charged
        assert charged.isascii()
        assert len(charged) <= 255

    tell(drive, story)


@pytest.mark.parametrize("order_id", ["..", ".", "", "%2e%2e", "a/b"])
def test_a_value_of_the_command_is_one_piece_of_the_path(drive: Drive, order_id: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        call = Call(TakePayment, "GET", "/charges/{order_id}", [CAPTURED])
        await world.start(Card(api, [call]), QUICK)
        await world.send(command(TakePayment(order_id=order_id, amount=1), ids))
        said = reason(await world.reply(ids.command()))
        if order_id in ("%2e%2e", "a/b"):
            assert [asked.path for asked in api.asked] == [f"/v1/charges/{order_id}"]
        else:
            assert "{order_id}" in said
            assert api.asked == []

    tell(drive, story)


def test_a_secret_that_is_not_there_stops_the_runner_before_any_command(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, api: CardApi) -> None:
        for value, told in (("", "CARD_TOKEN is empty or not set"), (f"{SECRET}\n", "Authorization has a line break")):
            monkeypatch.setenv("CARD_TOKEN", value)
            process = await world.start(Card(api))
            assert process.task is not None
            with pytest.raises(Misconfigured, match=told) as raised:
                await process.task
            assert SECRET not in str(raised.value)

    tell(drive, story)


def test_an_api_with_an_authority_of_its_own_is_believed_only_if_it_is_named(drive: Drive, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no certificate: openssl is missing")
    both = tmp_path / "both.pem"
    made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=card"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "ca.pem")]
    subprocess.run(["openssl", "req", *made, "-addext", "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True)
    both.write_text((tmp_path / "ca.pem").read_text() + (tmp_path / "key.pem").read_text())

    async def story(world: World) -> None:
        ids = Ids("o-1")
        async with CardApi(tls=both) as api:
            tries: list[tuple[dict[str, Any], str]] = [
                ({}, "CERTIFICATE_VERIFY_FAILED"),
                ({"ca": str(both)}, "was not answered: "),  # it wants our certificate, too
                ({"ca": str(both), "certificate": str(both)}, "done payment.taken.v1"),
            ]
            for attempt, (settings, told) in enumerate(tries, 1):
                process = await world.start(Card(api, **settings), QUICK)
                await world.send(command(TAKE, ids, attempt=attempt))
                reply = await world.reply(ids.command(), attempt)
                assert told in (reason(reply) if attempt < 3 else outcome(reply))
                await process.end()

    drive(story)


def test_a_file_that_is_no_certificate_stops_the_runner(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        process = await world.start(Card(api, ca=__file__))
        assert process.task is not None
        with pytest.raises(Misconfigured, match="cannot be used"):
            await process.task

    tell(drive, story)

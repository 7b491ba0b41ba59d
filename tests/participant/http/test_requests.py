"""An HTTP API as a participant, against a real server that misbehaves: charged exactly once, and never a false fact."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from saga.cloudevents import header_fields
from saga.errors import Misconfigured
from saga.participant import Settings
from saga.participant.http import Call
from saga.participant.inbox import State
from tests.participant.conftest import Drive
from tests.participant.http.card import ASK, CAPTURED, CHARGE, FIND, HASTY, QUICK, TAKE, Card, reason, tell
from tests.participant.http.card_api import SECRET, CardApi
from tests.participant.kit import (
    Ids,
    TakePayment,
    World,
    command,
    data,
    outcome,
)

pytestmark = pytest.mark.usefixtures("environment")


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


@pytest.mark.parametrize("manner", ["cut", "500", "500 after all", "hang", "late", "409", "202", "503 for a second"])
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


def test_an_answer_that_comes_a_byte_at_a_time_is_not_waited_for(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", "drip")
        await world.start(Card(api, timeout=HASTY), Settings(tries=1))
        await world.send(command(TAKE, ids))
        assert reason(await world.reply(ids.command())) == "Unavailable: POST /charges was not answered within 0.5 s"

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

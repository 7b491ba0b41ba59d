"""A definition of an HTTP participant: what it says in Python and in a file, and which mistakes it finds, with their place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import saga
import saga.participant.http
from saga.config import filled
from saga.engine.messages import Message
from saga.errors import DefinitionError, Misconfigured
from saga.participant.http import Api, Call, First, HttpParticipant, again, done, nothing, refused
from saga.participant.http.answers import Answer, Said, made, meaning
from saga.participant.http.session import _seconds
from saga.participant.http.templates import fill, idempotency_key, look, path
from saga.participant.work import Failed
from tests.participant.kit import (
    FindPayment,
    NotesForbidden,
    PaymentDeclined,
    PaymentTaken,
    ReturnPayment,
    TakePayment,
)

API = Api("https://api.example.com/v1", headers={"Authorization": "Bearer ${CARD_TOKEN}"})
LATE = timedelta(seconds=30)
FILE = """
name = "payment"

[api]
base = "https://api.example.com/v1"
headers = { Authorization = "Bearer ${CARD_TOKEN}" }
timeout = 5
keys = 7200
reason = "/error/message"
ca = "ca.pem"

[[call]]
command = "TakePayment"
request = "POST /charges"
body = { amount = "{amount}", reference = "order {order_id}", capture = true }
answers = [
  { status = [200, 201], is = "done", where = { "/status" = "captured" }, fields = { payment_id = "/charge/id" } },
  { status = 200, is = "again", where = { "/status" = ["pending", "new"] } },
  { status = 402, is = "PaymentDeclined", fields = { why = "/error/message" } },
]

[[call]]
command = "ReturnPayment"
request = "POST /charges/{subject_id}/refunds"
answers = [{ status = 201, is = "done" }]
first = { request = "POST /charges/{subject_id}/void", answers = [{ status = 200, is = "done" }, { status = 410, is = "nothing" }] }

[[call]]
command = "FindPayment"
request = "GET /charges/{subject_id}"
answers = [{ status = 200, is = "done" }, { status = 404, is = "nothing" }]
late = 30
"""
MESSAGES: list[type[Message]] = [TakePayment, ReturnPayment, FindPayment, PaymentTaken, PaymentDeclined]


def charge(*answers: Answer, **more: Any) -> Call:
    return Call(TakePayment, more.pop("method", "POST"), more.pop("path", "/charges"), list(answers) or [done(200)], **more)


def test_a_file_says_the_same_as_python(tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    file.write_text(FILE, encoding="utf-8")
    read = HttpParticipant.read(file, MESSAGES)
    api = Api(
        "https://api.example.com/v1",
        headers={"Authorization": "Bearer ${CARD_TOKEN}"},
        timeout=timedelta(seconds=5),
        keys=timedelta(hours=2),
        reason="/error/message",
        ca=str(tmp_path / "ca.pem"),
    )
    void = First("POST", "/charges/{subject_id}/void", [done(200), nothing(410)])
    written = [
        charge(
            done(200, 201, where={"/status": "captured"}, fields={"payment_id": "/charge/id"}),
            again(200, where={"/status": ["pending", "new"]}),
            refused(PaymentDeclined, 402, fields={"why": "/error/message"}),
            body={"amount": "{amount}", "reference": "order {order_id}", "capture": True},
        ),
        Call(ReturnPayment, "POST", "/charges/{subject_id}/refunds", [done(201)], first=void),
        Call(FindPayment, "GET", "/charges/{subject_id}", [done(200), nothing(404)], late=LATE),
    ]
    assert (read.name, read.api, list(read.calls)) == ("payment", api, written)
    assert sorted(read.handlers) == sorted(each.__type__ for each in (TakePayment, ReturnPayment, FindPayment))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("timeout = 5", "timout = 5"), "api.timout: Extra inputs are not permitted"),
        (("timeout = 5", 'timeout = "5"'), "api.timeout: Input should be a valid number"),
        (("[api]", "[[api]"), "cannot be read"),
        (('POST /charges"', '/charges"'), "call.0.request: String should match pattern"),
        (('command = "TakePayment"', 'command = "TakePayments"'), "'TakePayments' is no command in messages="),
        (('is = "PaymentDeclined"', 'is = "PaymentTaken"'), "is = 'PaymentTaken' is neither done, nothing, again nor a refusal"),
        (("late = 30", ""), 'FindPayment: an answer says "nothing there"; what is only slow would still come after that'),
        (("late = 30", "late = 4"), "late= is 4 s, but 3 tries of timeout= take 15 s by themselves"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    file = tmp_path / "card.toml"
    assert change[0] in FILE
    file.write_text(FILE.replace(*change), encoding="utf-8")
    with pytest.raises(DefinitionError) as raised:
        HttpParticipant.read(file, MESSAGES)
    assert told in str(raised.value)
    assert str(raised.value).startswith(str(file))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: charge(method="FETCH"), "the method is one of"),
        (lambda: charge(path="charges"), "the path begins with /"),
        (lambda: charge(path="/charges/{order}"), "{order} is no field of the command"),
        (lambda: charge(path="/charges/{order_id!r}"), "a place is {field}"),
        (lambda: charge(path="/charges/{"), "TakePayment: "),
        (lambda: charge(body={"a": ["{amont}"]}), "{amont} is no field"),
        (lambda: charge(method="GET", body={}), "a GET has no body"),
        (lambda: charge(refused(PaymentDeclined, 402)), "must be done"),
        (lambda: charge(done()), "done() needs the statuses"),
        (lambda: charge(done(500)), "500 says nothing of the command"),
        (lambda: charge(done(200), refused(PaymentDeclined, 429)), "429 says nothing of the command"),
        (lambda: charge(done(200), refused(PaymentDeclined, 401)), "401 says nothing of the command"),
        (lambda: charge(done(302)), "302 says nothing of the command"),
        (lambda: charge(done(200, 404)), "404 as done needs a where="),
        (lambda: charge(done(200), refused(PaymentDeclined, 202)), "202 as refused needs a where="),
        (lambda: charge(done(200), again(200, where={"/status": "new"})), "again(200) never fits"),
        (lambda: charge(done(200, where={"status": "new"})), "where= has JSON Pointers"),
        (lambda: charge(done(200), refused(NotesForbidden, 402)), "NotesForbidden is not one of its refuses="),
        (lambda: charge(done(200, fields={"id": "/id"})), "PaymentTaken has no id; it has amount, payment_id"),
        (lambda: charge(done(200, fields={"payment_id": "{id}"})), "{id} is no field of the command"),
        (lambda: charge(late=LATE), "late= is for a call that has nothing"),
        (
            lambda: charge(first=First("POST", "/x", [done(200), refused(PaymentDeclined, 402)])),
            "the request before the main one is",
        ),
        (lambda: charge(first=First("POST", "/x", [done(200, fields={"payment_id": "/id"})])), "makes no message"),
        (lambda: charge(first=First("POST", "/x", [nothing(404)])), "must be done"),
    ],
)
def test_a_call_that_cannot_be_right_is_a_definition_error(make: Callable[[], Call], told: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        HttpParticipant("payment", API, [make()])
    assert told in str(raised.value)
    assert Path(__file__).name in str(raised.value), "the place of the definition"


@pytest.mark.parametrize(
    ("api", "told"),
    [
        (Api("ftp://x"), "base= is an address"),
        (Api("http://api.example.com"), "all can read it on the way"),
        (Api("https://user:hunter2@api.example.com"), "secrets are headers"),
        (Api("https://api.example.com?key=hunter2"), "secrets are headers"),
        (Api("https://api.example.com:port"), "base= is no address"),
        (Api("https://x", headers={"Content-Type": "text/plain"}), "no header that can be set"),
        (Api("https://x", headers={"A b": "c"}), "no header that can be set"),
        (Api("https://x", headers={"idempotency-key": "1"}), "the command's id and no other"),
        (Api("https://x", timeout=timedelta()), "more than nothing"),
        (Api("https://x", reason="message"), "JSON Pointer"),
    ],
)
def test_an_api_that_cannot_be_right_is_a_definition_error(api: Api, told: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        HttpParticipant("payment", api, [charge()])
    assert told in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_two_calls_for_a_command_and_another_services_command_are_mistakes() -> None:
    with pytest.raises(DefinitionError, match="has a handler already"):
        HttpParticipant("payment", API, [charge(), charge()])
    with pytest.raises(DefinitionError, match="goes to 'payment', but this participant is 'card'"):
        HttpParticipant("card", API, [charge()])


# --- values


KNOWN = {"order_id": "o/1", "amount": {"minor": 7, "parts": [1, 2]}, "open": True, "none": None, "key": "k"}


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ("{order_id}", "o/1"),
        ("order {order_id}", "order o/1"),
        ("{{order_id}}", "{order_id}"),
        ("{amount}", {"minor": 7, "parts": [1, 2]}),
        ("{amount.minor}", 7),
        ("{amount.parts.1}", 2),
        ("{amount.minor} of {open}", "7 of true"),
        ("/charge/id", "ch_1"),
        ("/charge/none", None),
        ("/lines/1/a~1b", 3),
        ({"a": "/charge/id", "b": "/missing", "c": ["/missing", 1, None]}, {"a": "ch_1", "c": [1, None]}),
        (12, 12),
    ],
)
def test_a_shape_is_filled_from_the_command_and_the_answer(shape: Any, value: Any) -> None:
    assert fill(shape, KNOWN, {"charge": {"id": "ch_1", "none": None}, "lines": [0, {"a/b": 3}]}) == value


def test_in_a_body_a_slash_is_only_a_slash() -> None:
    assert fill("/charge/id", KNOWN) == "/charge/id"


@pytest.mark.parametrize("shape", ["{amount.major}", "a {none}", "a {amount}"])
def test_what_the_command_does_not_have_is_never_made_up(shape: str) -> None:
    with pytest.raises(Failed):
        fill(shape, KNOWN)


def test_a_place_in_a_path_is_one_piece_of_it() -> None:
    assert path("/a/{order_id}?of={order_id}&x=1", KNOWN) == "/a/o%2F1?of=o%2F1&x=1"
    for bad in ("..", "."):
        with pytest.raises(Failed):
            path("/a/{order_id}/b", {"order_id": bad})
    with pytest.raises(Failed):
        path("/a/{x}{x}", {"x": "."})


def test_the_key_is_the_id_as_far_as_a_header_can_hold_it() -> None:
    assert idempotency_key("checkout:o-1:x:pay:execute") == "checkout:o-1:x:pay:execute"
    assert idempotency_key("checkout:ü:x") == "checkout:%C3%BC:x"
    long = {idempotency_key("x" * 400 + tail, purpose) for tail in ("a", "b") for purpose in ("", "first")}
    assert {len(key) for key in long} == {255}
    assert len(long) == 4, "what differs beyond the limit has another key all the same"
    assert idempotency_key("x" * 400) == idempotency_key("x" * 400)


def test_a_pointer_that_leads_nowhere_finds_nothing() -> None:
    for at in ("/a", "/0", "/x/1", "/x/-", "/x/01x"):
        assert not isinstance(look({"x": [1]}, at), int)


# --- meanings


@pytest.mark.parametrize(("body", "fits"), [(b'{"n": 1}', True), (b'{"n": true}', False), (b'{"n": 1.0}', False), (b"[]", False)])
def test_a_value_is_compared_as_json(body: bytes, fits: bool) -> None:
    assert done(200, where={"/n": 1}).fits(200, Said("", 200, body).document()) is fits


@pytest.mark.parametrize(
    "body", [b'{"payment_id": "a", "amount": true}', b'{"payment_id": 1, "amount": 1}', b'{"amount": 1}', b"1"]
)
def test_a_reply_is_made_strictly(body: bytes) -> None:
    said = Said("POST /charges", 200, body)
    answer, document = meaning([done(200)], said)
    with pytest.raises(Failed, match="no PaymentTaken can be made of it"):
        made(PaymentTaken, answer, document, {}, said)


def test_fields_go_before_what_has_the_same_name() -> None:
    said = Said("", 200, b'{"payment_id": "a", "amount": 1, "more": 2}')
    answer, document = meaning([done(200, fields={"payment_id": "{order_id}"})], said)
    assert made(PaymentTaken, answer, document, {"order_id": "o-1"}, said) == PaymentTaken(payment_id="o-1", amount=1)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert _seconds("7") == 7
    assert 8 < _seconds(format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)) <= 10
    for nonsense in ("", "soon", "-5", "1.5", "Mon, 99 Foo 2026 00:00:00 GMT", "٣"):
        assert _seconds(nonsense) == 0


def test_the_environment_fills_in_what_is_named() -> None:
    assert filled("a ${X_1} b ${Y}", {"X_1": "1", "Y": "2"}) == ("a 1 b 2", ["1", "2"])
    assert filled("$X {Y} $", {}) == ("$X {Y} $", [])
    for text in ("${X}", "${SAGA_HTTP}"):
        with pytest.raises(Misconfigured):
            filled(text, {"SAGA_HTTP": "x"})


def test_the_public_names_are_sorted_and_exist() -> None:
    names = saga.participant.http.__all__
    assert names == sorted(names)
    assert all(hasattr(saga.participant.http, name) for name in names)
    assert saga.HttpParticipant is HttpParticipant

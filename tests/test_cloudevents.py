"""The wire format: what is read, what is refused and under which reason, and that the same event gives the same bytes."""

from __future__ import annotations

import pytest

from saga.cloudevents import MAX_DEPTH, CloudEvent, header_fields, iso_time, parse, parse_json, parse_time
from saga.errors import Unreadable
from saga.log.base import Headers, StoredRecord

HEADERS: Headers = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_type", b"order.placed.v1"), ("ce_source", b"order"))


def stored(value: bytes | None, headers: Headers = HEADERS) -> StoredRecord:
    return StoredRecord("order.events", 0, 0, 0, b"k", value, headers)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("raw", [b"{}", b'{"a": 1.10}', b"18446744073709551615", b'{"a":{"a":1}}', nested(MAX_DEPTH - 1)])
def test_valid_json_is_read(raw: bytes) -> None:
    parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "no-value"),
        (b"", "no-value"),
        (b"\x80\x04\x95", "json"),
        (b'"\xff"', "json"),
        (b"NaN", "json"),
        (b'{"a":1e400}', "json"),
        (nested(100_000), "json"),
        (nested(MAX_DEPTH + 1), "json"),
        (b'{"a":1,"a":2}', "duplicate-key"),
        (b'{"a":123456789012345678901234567890}', "huge-integer"),
    ],
)
def test_what_would_change_a_fact_or_cannot_be_read_is_refused(raw: bytes | None, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        parse_json(raw)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), "no-type"),
        ((*HEADERS, ("ce_id", b"2")), "doubled-header"),
        ((*HEADERS, ("ce_subject", b"\xff")), "header-encoding"),
        ((("ce_specversion", b"0.3"), ("ce_type", b"a.b.v1")), "specversion"),
    ],
)
def test_headers_that_are_not_cloudevents_are_refused(headers: Headers, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        parse(stored(b"{}", headers))
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((("traceparent", b"00-a-b-01"),), "00-a-b-01"),
        ((("ce_traceparent", b"00-a-b-01"),), "00-a-b-01"),  # CloudEvents' extension for distributed tracing
        ((("traceparent", b"00-a-b-01"), ("ce_traceparent", b"00-a-b-01")), "00-a-b-01"),
        ((("traceparent", b"00-a-b-01"), ("traceparent", b"00-c-d-01"), ("traceparent", b"00-c-d-01")), ""),
        ((("traceparent", b"\xff\x00"),), "\ufffd\x00"),
    ],
)
def test_a_traceparent_is_never_a_reason_not_to_read_a_record(more: Headers, said: str) -> None:
    assert header_fields((*HEADERS, *more))["traceparent"] == said


def test_headers_of_others_are_no_business_of_ours() -> None:
    assert header_fields((("x", b"\xff"), ("x", b"\xff"), ("traceparent", b"00-1"))) == {"traceparent": "00-1"}


def test_an_event_survives_the_wire_and_always_gives_the_same_bytes() -> None:
    event = CloudEvent("a.b.v1", "1", "a", {"z": 1, "a": "ü"}, iso_time(0), "key", {"sagaoutcome": "done", "traceparent": "00-1"})
    record = event.record(b"k")
    assert record == event.record(b"k")
    assert parse(StoredRecord("a.events", 0, 0, 0, record.key, record.value, record.headers)) == event


def test_times_are_rfc_3339_in_utc() -> None:
    assert iso_time(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert parse_time("2023-11-14T22:13:20.123Z") == 1_700_000_000_123
    assert parse_time("2023-11-14T23:13:20.123+01:00") == 1_700_000_000_123
    assert parse_time("2023-11-14") is parse_time("yesterday") is None

"""The wire format: CloudEvents 1.0 in Kafka's binary mode, JSON values.

Headers carry `ce_specversion`, `ce_id`, `ce_type`, `ce_source`, `ce_time`, `ce_subject`, `content-type` and `traceparent`; a
saga's own attributes are CloudEvents extensions, lower case without separators (CloudEvents 1.0, "Naming conventions"):

    sagainstance   <saga>:<key>:<run>
    sagacommand    <instance>:<step>:<action>, the same for every attempt; echoed by the reply
    sagaaction     execute | compensate | verify
    sagasubject    on compensate and verify: the sagacommand of the execute it is about
    sagaattempt    1, 2, …; echoed by the reply
    sagaoutcome    on a reply: done | refused | failed | nothing | expired
    sagaorigin     on a forward or dead letter: <topic>:<partition>:<offset> where the record first stood
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from saga.errors import Unreadable
from saga.log.base import Headers, Record, StoredRecord

_WRITE_DEPTH = 254  # levels that orjson writes
MAX_DEPTH = 230  # levels that a value may have: a decision or a snapshot puts fewer than 24 around it
_SPECVERSION, _CONTENT_TYPE = ("ce_specversion", b"1.0"), ("content-type", b"application/json")
_CONTEXT = ("id", "type", "source", "time", "subject", "specversion")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event as it travels. `attributes` holds the extensions and `traceparent`; `data` is the decoded JSON value.

    `id` and `source` may be empty in what other teams send: such an input is known by its origin.
    """

    type: str
    id: str
    source: str
    data: Any
    time: str = ""
    subject: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    def record(self, key: bytes | None) -> Record:
        """This event as a Kafka record. The same event gives the same bytes, always."""
        headers = [
            _SPECVERSION,
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
        ]
        if self.time:
            headers.append(("ce_time", self.time.encode()))
        if self.subject:
            headers.append(("ce_subject", self.subject.encode()))
        headers.append(_CONTENT_TYPE)
        for name, text in self.attributes.items():
            headers.append(("traceparent" if name == "traceparent" else "ce_" + name, text.encode()))
        return Record(key, orjson.dumps(self.data, option=orjson.OPT_SORT_KEYS), tuple(headers))


def header_fields(headers: Headers) -> dict[str, str]:
    """The CloudEvents headers without their prefix, and `traceparent`; other headers are no business of ours.

    Raises Unreadable for a CloudEvents header that stands twice or is not UTF-8.
    """
    fields: dict[str, str] = {}
    for name, raw in headers:
        if name[:3] == "ce_" and name != "ce_traceparent":
            name = name[3:]
            if name in fields:
                raise Unreadable("doubled-header", f"header {name!r} stands twice")
            try:
                fields[name] = raw.decode()
            except UnicodeDecodeError as error:
                raise Unreadable("header-encoding", f"header {name!r} is not UTF-8: {error}") from None
        elif name in ("traceparent", "ce_traceparent"):
            # Never a reason not to work: one that cannot be understood counts as none (W3C Trace Context, section 3.2).
            said = raw.decode(errors="replace")
            fields["traceparent"] = said if fields.get("traceparent", said) == said else ""
    return fields


def parse(record: StoredRecord, fields: Mapping[str, str] | None = None) -> CloudEvent:
    """Read a record as a CloudEvent. `fields`: its headers, if they were read already.

    Raises Unreadable, with a reason, for whatever is not valid CloudEvents 1.0 in binary mode with a JSON value.
    """
    fields = header_fields(record.headers) if fields is None else fields
    if not fields.get("type"):
        raise Unreadable("no-type", "there is no ce_type header")
    if fields.get("specversion", "1.0") != "1.0":
        raise Unreadable("specversion", f"ce_specversion is {fields['specversion']!r}, not '1.0'")
    return CloudEvent(
        type=fields["type"],
        id=fields.get("id", ""),
        source=fields.get("source", ""),
        time=fields.get("time", ""),
        subject=fields.get("subject", ""),
        data=parse_json(record.value),
        attributes={name: text for name, text in fields.items() if name not in _CONTEXT},
    )


def parse_json(raw: bytes | None) -> Any:
    """A JSON value, strictly: UTF-8, no NaN, no key twice in an object, integers within 64 bits.

    orjson refuses NaN, bad UTF-8 and deep nesting by itself, but keeps the last of two equal keys and makes a float of a huge
    integer: both would change a fact without a word. Written again, such a value has another length; only then is it worth
    the slow, exact look.
    """
    if not raw:
        raise Unreadable("no-value", "the record has no value")
    try:
        value = orjson.loads(raw)
        if len(raw) > MAX_DEPTH and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
            orjson.dumps(_nested(value))  # reads 1024 levels, but writes only 254: it must fit where a decision holds it, too
        if len(orjson.dumps(value)) != len(raw):
            _look_closely(raw)
    except (ValueError, TypeError, RecursionError) as error:
        raise Unreadable("json", str(error)) from None
    return value


def _nested(value: Any) -> Any:
    for _ in range(_WRITE_DEPTH - MAX_DEPTH):
        value = [value]
    return value


def _look_closely(raw: bytes) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise Unreadable("duplicate-key", f"the key {twice[:64]!r} stands twice in one object")
        return dict(pairs)

    def within(digits: str) -> int:
        if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
            raise Unreadable("huge-integer", f"the integer {digits[:32]}… is beyond 64 bits")
        return int(digits)

    json.loads(raw, object_pairs_hook=once, parse_int=within)


@lru_cache(maxsize=1024)  # whatever one commit sends has one time
def iso_time(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC, as CloudEvents wants `time`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> int | None:
    """RFC 3339 as milliseconds since 1970; None if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return round(moment.timestamp() * 1000)

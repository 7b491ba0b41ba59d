"""The headers of records, as JSON Schema: CloudEvents 1.0 in Kafka's binary mode, and our extension attributes. All are UTF-8 text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_COMMAND_ID = "checkout:order-7:mb2k9x1c:pay:execute"

# name → (what it says, an example)
MEANING: dict[str, tuple[str, str]] = {
    "ce_specversion": ("The version of CloudEvents.", "1.0"),
    "ce_id": ("Of this message: a copy has the same. With ce_source it tells a duplicate.", f"{_COMMAND_ID}:1"),
    "ce_type": ("The type, which says what the value is.", "payment.take_payment.v1"),
    "ce_source": ("Who says it: a service's name; `saga` is the coordinator.", "saga"),
    "ce_time": (
        "RFC 3339. Of a command: when it was first decided, the same for every attempt and copy.",
        "2026-01-31T12:00:00.000Z",
    ),
    "ce_subject": ("The saga's key, or the business id.", "order-7"),
    "content-type": ("Of the value.", "application/json"),
    "traceparent": (
        "W3C trace context; handed on from the start to each command and outcome, and from a command to its answer.",
        "00-…-01",
    ),
    "ce_sagainstance": (
        "The instance: <saga>:<key>:<run>; in a key, `%` is written %25 and `:` is %3A.",
        "checkout:order-7:mb2k9x1c",
    ),
    "ce_sagacommand": ("The command's id: the same for every attempt; echoed by the answer.", _COMMAND_ID),
    "ce_sagaaction": ("execute, compensate or verify; echoed by the answer.", "execute"),
    "ce_sagasubject": ("On compensate and verify: the ce_sagacommand of the execute it is about.", _COMMAND_ID),
    "ce_sagaattempt": ("1, 2, …; echoed by the answer.", "1"),
    "ce_sagaoutcome": ("Of an answer: done, refused, failed, nothing or expired.", "done"),
    "ce_sagaparent": (
        "On what a parent says to its child: the ce_sagacommand that the child answers.",
        "order:7:mb2k9x1c:pay:execute",
    ),
    "ce_sagachild": ("The saga that is to be started, where others start on the same event, too.", "payout"),
    "ce_sagaorigin": ("Where the record first stood: <topic>:<partition>:<offset>.", "order.events:3:1042"),
    "ce_sagareason": ("Why it was set aside, in a word.", "schema"),
    "ce_sagadetail": ("Why it was set aside, in a sentence.", "order.placed.v1: lines: Field required"),
}
VALUES: dict[str, tuple[str, ...]] = {
    "ce_specversion": ("1.0",),
    "content-type": ("application/json",),
    "ce_sagaaction": ("execute", "compensate", "verify"),
    "ce_sagaoutcome": ("done", "refused", "failed", "nothing", "expired"),
}


@dataclass(frozen=True)
class Headers:
    """The headers of one kind of message."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def schema(self) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        for name in (*self.required, *self.optional):
            what, example = MEANING[name]
            properties[name] = {"type": "string", "description": what, "examples": [example]}
            if name in VALUES:
                properties[name]["enum"] = list(VALUES[name])
        return {"type": "object", "properties": properties, "required": list(self.required)}


_ALWAYS = ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "content-type")
_ADDRESS = ("ce_sagainstance", "ce_sagacommand", "ce_sagaaction", "ce_sagaattempt")

COMMAND = Headers("commandHeaders", (*_ALWAYS, *_ADDRESS, "traceparent"), ("ce_sagasubject",))
REPLY = Headers(
    "replyHeaders",
    ("ce_type", "ce_id", "ce_source", *_ADDRESS, "ce_sagaoutcome"),
    ("ce_specversion", "ce_time", "ce_subject", "content-type", "traceparent"),
)
EVENT = Headers(
    "eventHeaders", ("ce_type",), ("ce_specversion", "ce_id", "ce_source", "ce_time", "ce_subject", "content-type", "traceparent")
)
ANNOUNCEMENT = Headers(
    "announcementHeaders", tuple(name for name in _ALWAYS if name != "ce_subject"), ("ce_subject", "traceparent")
)
PARENT = Headers("parentHeaders", _ALWAYS, ("ce_sagaparent", "ce_sagachild", "ce_sagasubject", "traceparent"))
CHILD = Headers("childHeaders", (*_ALWAYS, "ce_sagacommand", "ce_sagaattempt", "ce_sagaoutcome"), ("traceparent",))
DEADLETTER = Headers("deadletterHeaders", ("ce_sagareason", "ce_sagadetail"), ("ce_sagaorigin",))

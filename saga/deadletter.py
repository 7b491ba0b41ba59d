"""What cannot go on is set aside: on `saga.deadletter`, as it came, with the reason in its headers; and it holds up nobody else.

The naive way for a record that the log refuses for good (it is larger than its topic takes) is to try again: then all of its partition
waits for ever behind it. To leave it out is worse: what was decided is never told. Here it goes where a person looks, and the others go on;
who waits for it is late, and goes by its policy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from saga.engine.messages import DEADLETTERS
from saga.errors import Rejected
from saga.log.base import Log, Outgoing, Record, TopicPartition

TOO_LARGE = "too-large"  # the reason of a record that its topic does not take
MAX_RECORD = 900_000  # bytes of key, value and headers; what brokers take, less what they add (max.message.bytes is 1,048,588)
SAMPLE = 65_536  # bytes kept of each part of a record that is too large to be kept whole
DETAIL = 2_000  # characters of the detail

logger = logging.getLogger(__name__)


def dead_letter(record: Record, reason: str, detail: str, origin: str = "", most: int = MAX_RECORD) -> Record:
    """The record as it came, with where it stood (unless it says so itself) and why it is here; cut where it has over `most` bytes."""
    why: list[tuple[str, bytes]] = [("ce_sagareason", reason.encode()), ("ce_sagadetail", detail[:DETAIL].encode(errors="replace"))]
    if origin and not any(name == "ce_sagaorigin" for name, _ in record.headers):
        why.insert(0, ("ce_sagaorigin", origin.encode()))
    key, value, headers = record.key, record.value, record.headers
    if len(key or b"") + len(value or b"") + sum(len(name) + len(raw or b"") for name, raw in headers) > most:
        key = key[:SAMPLE] if key else key
        value = value[:SAMPLE] if value else value
        headers = tuple((name, raw[:SAMPLE]) for name, raw in headers[:10] if len(name) < DETAIL)
    return Record(key, value, (*headers, *why))


async def publish_or_set_aside(log: Log, records: Sequence[Outgoing], told: Callable[[str], None]) -> None:
    """Publish all that the log takes. What it refuses for good is set aside; `told` hears for which topic it was.

    Raises Unavailable: then publish all of them again.
    """
    try:
        await log.publish(records)
    except Rejected as error:
        if len(records) > 1:
            for record in records:
                await publish_or_set_aside(log, [record], told)
            return
        to, refused = records[0]
        logger.error("a record can never be published, since %s", error)
        told(to.topic)
        there = TopicPartition(DEADLETTERS, 0)
        try:
            await log.publish([Outgoing(there, dead_letter(refused, TOO_LARGE, str(error), most=SAMPLE))])
        except Rejected:
            with suppress(Rejected):  # then at least that there was one
                await log.publish([Outgoing(there, dead_letter(Record(None, None), TOO_LARGE, str(error)))])

"""A fetch on the wire: what is asked of one broker, what it answers, and the session that makes both small (KIP-227).

Problem: who follows thirty partitions asks for more of them some hundred times a second, and nearly always one of them has something.
Naive way, and aiokafka's: each request names every partition and each answer speaks of every one, field by field, in Python. That was
the largest part of what a saga cost at a low rate, for us and for the broker.

The way taken: the broker keeps what we asked for last (a session), a request names only what is different now, and an answer only
partitions that have something to say. What is left is read and written with `struct`.

    epoch 0: all partitions ─▶ the broker makes a session ─▶ epoch 1, 2, …: what has changed ─▶ …
                  ▲                                                │ it has forgotten the session, or an answer was lost
                  └────────────────────────────────────────────────┘

This module does no I/O: `kafka_follow` sends what it makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple

from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.errors import CorruptRecordException  # type: ignore[import-untyped]

from saga.log.kafka_wire import INT, Call, topic_at, topics

NO_SESSION = 0
LAST_EPOCH = 2**31 - 1  # the next one is 1 again
SESSION_NOT_FOUND = 70  # FETCH_SESSION_ID_NOT_FOUND
READ_COMMITTED = 1

# In the head of a batch: what its length does not count, where it says how it is written, and how far its last offset is from its first.
OVERHEAD, MAGIC, DISTANCE = 12, 16, 23
MAGIC_2 = 2  # as Kafka writes since 0.11
SMALLEST, SMALLEST_2 = 14, 49  # what a length counts at least: of the oldest way of writing, and of today's

_ASK = Struct(">iiiibii")  # replica, wait, least bytes, most bytes, isolation, session, epoch
_PARTITION = Struct(">iiqqi")  # number, leader's epoch, offset, log start, most bytes
_NO_RACK = b"\0\0"
_ANSWER = Struct(">ihii")  # throttle, error, session, how many topics
_PART = Struct(">ihqqqi")  # number, error, high watermark, last stable offset, log start, how many aborted transactions
_ABORTED = Struct(">qq")
_TAIL = Struct(">ii")  # preferred replica, length of the records
_BATCH = Struct(">qi")  # base offset, length


class Part(NamedTuple):
    """What a broker says of one partition. `aborted`: producer and first offset of transactions that were aborted."""

    partition: Any
    error: int
    aborted: list[tuple[int, int]]
    records: bytes


class FetchAnswer(NamedTuple):
    """What a broker says; `error` is of the whole."""

    error: int
    session: int
    parts: list[Part]

    @classmethod
    def decode(cls, frame: BytesIO) -> FetchAnswer:
        """Read an answer from behind its correlation id."""
        data, at = frame.getvalue(), frame.tell()
        _, error, session, count = _ANSWER.unpack_from(data, at)
        at += _ANSWER.size
        parts: list[Part] = []
        for _ in range(count):
            topic, partitions, at = topic_at(data, at)
            for _ in range(partitions):
                part, at = _part(topic, data, at)
                parts.append(part)
        return cls(error, session, parts)


def _part(topic: str, data: bytes, at: int) -> tuple[Part, int]:
    number, error, _, _, _, transactions = _PART.unpack_from(data, at)
    at += _PART.size
    aborted = []
    for _ in range(transactions):  # -1: there is no list
        aborted.append(_ABORTED.unpack_from(data, at))
        at += _ABORTED.size
    _, length = _TAIL.unpack_from(data, at)
    at += _TAIL.size
    end = at + max(length, 0)
    return Part(KafkaPartition(topic, number), error, aborted, data[at:end]), end


class Limits(NamedTuple):
    """Of one request: milliseconds that the broker waits for the first byte, and bytes it gives at most, of all and of each."""

    wait: int
    most: int
    each: int


class FetchCall(Call):
    API_KEY, API_VERSION, SINCE = 1, 11, "2.3"
    RESPONSE_TYPE = FetchAnswer


class Session:
    """What one broker remembers of our requests, so that the next one may be short. One request at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._id = NO_SESSION
        self._epoch = 0
        self._known: dict[Any, int] = {}

    def ask(self, wanted: Mapping[Any, int]) -> FetchCall:
        """The next request: from where on each partition is wanted now. Then comes `answered` or `lost`."""
        changed: Mapping[Any, int] = wanted
        gone: list[Any] = []
        if self._epoch:
            known = self._known
            changed = {partition: offset for partition, offset in wanted.items() if known.get(partition) != offset}
            gone = [partition for partition in known if partition not in wanted]
        self._known = dict(wanted)
        limits = self._limits
        head = _ASK.pack(-1, limits.wait, 1, limits.most, READ_COMMITTED, self._id, self._epoch)
        return FetchCall(head + _asked(changed, limits.each) + _forgotten(gone) + _NO_RACK)

    def answered(self, answer: FetchAnswer) -> bool:
        """Whether it says anything of partitions; if not, the next request begins anew."""
        if answer.error:
            if answer.error == SESSION_NOT_FOUND:
                self._id = NO_SESSION
            self._epoch = 0  # with the id of the session: the broker ends it and makes another
            return False
        self._id = answer.session
        self._epoch = 0 if answer.session == NO_SESSION else 1 if self._epoch == LAST_EPOCH else self._epoch + 1
        return True

    def lost(self) -> None:
        """No answer came: what the broker knows is not known."""
        self._epoch = 0


def _asked(partitions: Mapping[Any, int], each: int) -> bytes:
    by_topic: dict[str, list[bytes]] = {}
    for (topic, number), offset in partitions.items():
        by_topic.setdefault(topic, []).append(_PARTITION.pack(number, -1, offset, -1, each))
    return topics(by_topic)


def _forgotten(partitions: Sequence[Any]) -> bytes:
    by_topic: dict[str, list[bytes]] = {}
    for topic, number in partitions:
        by_topic.setdefault(topic, []).append(INT.pack(number))
    return topics(by_topic)


def end_of(records: bytes, offset: int) -> int:
    """The offset behind the last whole batch of what was fetched from `offset`; `offset` itself if there is none.

    Raises CorruptRecordException for bytes that cannot be batches.
    """
    at, size = 0, len(records)
    while size - at > MAGIC:
        base, length = _BATCH.unpack_from(records, at)
        if length < (SMALLEST_2 if records[at + MAGIC] >= MAGIC_2 else SMALLEST):
            raise CorruptRecordException(f"a batch of {length} bytes")
        after = at + OVERHEAD + length
        if after > size:
            break  # the broker cut it off: it did not fit
        # A message of before Kafka 0.11 has no distance: it stands for its own offset, or its set's last one.
        last = base + (INT.unpack_from(records, at + DISTANCE)[0] if records[at + MAGIC] >= MAGIC_2 else 0)
        offset, at = max(offset, last + 1), after
    return offset

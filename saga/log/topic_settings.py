"""What a topic may be called and set to, and what it has if nobody says: for the adapters that have no broker to ask."""

from __future__ import annotations

import re
from collections.abc import Iterable

from saga.errors import Misconfigured
from saga.log.base import Record, TopicSpec

# What a topic has if its creator says nothing: the defaults of Apache Kafka 4.
DEFAULTS = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "delete.retention.ms": "86400000",
    "max.compaction.lag.ms": "9223372036854775807",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.ms": "604800000",
    "unclean.leader.election.enable": "false",
}
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def check_spec(topic: TopicSpec) -> None:
    """Raises Misconfigured for a name, number or setting that Kafka would refuse."""
    if not _NAME.fullmatch(topic.name) or topic.partitions < 1 or topic.replication < 1:
        raise Misconfigured(f"{topic.name}: not a valid name, number of partitions or replication")
    unknown = sorted(set(topic.config) - set(DEFAULTS))
    if unknown:
        raise Misconfigured(f"{topic.name}: unknown settings {', '.join(unknown)}")


def batch_size(records: Iterable[Record]) -> int:
    """The bytes of keys, values and headers: what is held against max.message.bytes."""
    return sum(
        len(each.key or b"") + len(each.value or b"") + sum(len(name.encode()) + len(value) for name, value in each.headers)
        for each in records
    )

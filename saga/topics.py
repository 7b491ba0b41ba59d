"""The topics an app needs, as they must be, and what is wrong with those that are there.

Some settings decide whether the promises hold; those are compared exactly. Others are a least that anybody may raise: more
retention, more replicas, larger messages. Topics of domain events may have been there long before us, with their own number of
partitions; everything else of ours is numbered as the journal is, because the owner of partition n owns n everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from saga.engine.messages import DEADLETTERS, REQUESTS, Command, commands_topic, events_topic, topic_of
from saga.log.base import TopicSpec
from saga.runtime.codec import EVENTS, JOURNAL

if TYPE_CHECKING:
    from saga.app import App

DAY = 24 * 3600 * 1000  # ms
KEEP_INPUTS = 7 * DAY  # a week-end and the days after it: so long may everything of ours stand still without losing an input
KEEP_DEADLETTERS = 30 * DAY  # a person has to look at them
MAX_JOURNAL_BATCH = 4 * 1024 * 1024  # bytes; the largest decision that is ever written, with its instance's whole data
FOR_EVER = -1

AT_LEAST = ("retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas")

# What an acknowledged record relies on: it stands on min.insync.replicas brokers, and none that lacks it may become leader.
# Time is the broker's: a record dated 1970 by its sender would be deleted at once, one dated 9999 never.
_SAFE = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
    "retention.bytes": str(FOR_EVER),
}


def specs(app: App, *, replication: int, min_insync: int) -> list[TopicSpec]:
    """The topics of an app, the coordinator's own first.

    saga.journal       the truth. Never compacted and never aged out: the owner trims it itself, up to a snapshot. Its time is the
                       broker's, the one clock that all owners of a partition share. Batches of up to 4 MiB
    saga.requests      inputs, so kept a week: longer than an outage of ours, and deleted by age alone, never by size
    <x>.commands       the same, for the participants that read them
    <x>.events         the same; also read by others
    saga.events        the same
    saga.deadletter    kept a month, since people read it
    """
    inputs = {**_SAFE, "min.insync.replicas": str(min_insync), "retention.ms": str(KEEP_INPUTS)}
    journal = {**inputs, "retention.ms": str(FOR_EVER), "max.message.bytes": str(MAX_JOURNAL_BATCH)}
    deadletters = {**inputs, "retention.ms": str(KEEP_DEADLETTERS)}
    special = {JOURNAL: journal, DEADLETTERS: deadletters}
    return [TopicSpec(name, app.partitions, replication, special.get(name, inputs)) for name in _names(app)]


def needed_to_run(app: App, *, replication: int, min_insync: int) -> list[TopicSpec]:
    """What must be there before anything may be decided: the journal as it must be, and a place for whatever may have to leave."""
    wanted = specs(app, replication=replication, min_insync=min_insync)
    outputs = [spec for spec in wanted if not _of_others(spec.name) and spec.name != JOURNAL]
    journal = [spec for spec in wanted if spec.name == JOURNAL]
    return journal + [TopicSpec(spec.name, spec.partitions, replication=0) for spec in outputs]


def problems(wanted: Iterable[TopicSpec], actual: Mapping[str, TopicSpec]) -> list[str]:
    """What is wrong with the topics that are there, a sentence each: both values, and what to do. Empty if all is well."""
    found: list[str] = []
    for spec in wanted:
        there = actual.get(spec.name)
        if there is None:
            found.append(f"topic {spec.name} does not exist; create it with `saga topics apply`")
        else:
            found += _partitions(spec, there) + _replication(spec, there) + _settings(spec, there)
    return found


def _names(app: App) -> Sequence[str]:
    names = dict.fromkeys([JOURNAL, REQUESTS, EVENTS, DEADLETTERS])
    for saga in app.book.all():
        names.update(dict.fromkeys(topic_of(message) for message in saga.messages() if issubclass(message, Command)))
    names.update(dict.fromkeys(app.book.topics))
    for participant in app.participants:
        names.update(dict.fromkeys((commands_topic(participant), events_topic(participant))))
    return list(names)


def _of_others(name: str) -> bool:
    """Domain events: a service's own topic, which may serve other purposes too."""
    return name.endswith(".events") and name != EVENTS


def _partitions(spec: TopicSpec, there: TopicSpec) -> list[str]:
    if there.partitions == spec.partitions:
        return []
    counted = f"topic {spec.name} has {there.partitions} partitions, the app says {spec.partitions}"
    if spec.name in (JOURNAL, REQUESTS):
        return [
            f"{counted}: the home of every key depends on this number, so it is never changed; "
            f"set App(partitions={there.partitions}), or begin anew under another SAGA_PREFIX"
        ]
    if _of_others(spec.name):
        return []  # any number will do: what comes in on another partition than its saga's is forwarded
    if there.partitions > spec.partitions:
        return []
    return [f"{counted}: what is meant for the missing ones has no place; add partitions with kafka-topics.sh --alter"]


def _replication(spec: TopicSpec, there: TopicSpec) -> list[str]:
    if there.replication >= spec.replication:
        return []
    return [
        f"topic {spec.name} is on {there.replication} brokers, it must be on {spec.replication} to survive the loss of one; "
        "add replicas with kafka-reassign-partitions.sh (for one broker on a developer's machine there is SAGA_DEV=1)"
    ]


def _settings(spec: TopicSpec, there: TopicSpec) -> list[str]:
    found = []
    for name, wanted in spec.config.items():
        if name == "message.timestamp.type" and _of_others(spec.name):
            continue  # whose time their records carry is for those to say who write them
        actual = there.config.get(name)
        if actual is None or not _fits(name, wanted, actual):
            least = "at least " if name in AT_LEAST and wanted != str(FOR_EVER) else ""
            found.append(
                f"topic {spec.name}: {name} is {actual if actual is not None else 'not known'}, it must be {least}{wanted}; change it "
                f"with kafka-configs.sh --alter --entity-type topics --entity-name {spec.name} --add-config {name}={wanted}"
            )
    return found


def _fits(name: str, wanted: str, actual: str) -> bool:
    if name not in AT_LEAST:
        return actual == wanted
    if not actual.removeprefix("-").isdigit():
        return False
    return _endless(actual) >= _endless(wanted)


def _endless(text: str) -> float:
    return float("inf") if int(text) == FOR_EVER else float(text)

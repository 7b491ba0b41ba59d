"""Consumer groups of a file log: the rules by which rows of `groups` and `members` change. Each function is one transaction.

It is the eager protocol of Kafka with the table in the place of the coordinator, so whoever comes first does what is due:

    stable ── somebody joins, leaves, or is silent for its session ──▶ a round: every member must give up what it has and join again
      ▲                                                                   │
      └── all have, or the round's time is over: those who have share ────┘   generation + 1; the others are dropped

Ownership is a lease: it holds while the member renews it. Who was dropped learns it when it next looks; so two may believe for a
while that they own the same, as with Kafka, which is what users must survive.

Time is the machine's monotonic clock: one for all processes, and nobody sets it. It begins anew with the machine, so a lease counts
only if it ends within its session from now.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple

from saga.errors import LostOwnership, Unavailable
from saga.log.base import TopicPartition


class Standing(StrEnum):
    OWNER = "owner"  # it owns its share
    CALLED = "called"  # a round is under way: it must give up its share and join again
    JOINING = "joining"  # it has, and waits for the others
    DROPPED = "dropped"  # the group went on without it


class Seen(NamedTuple):
    """How a member stands. `due`: in so many seconds something may be to be done, whether anybody rings or not."""

    standing: Standing
    owned: frozenset[int]
    due: float


class Group(NamedTuple):
    """A group on one topic. `bell` is the number by which its changes are told: no partition has it."""

    id: int
    name: str
    topic: str

    @property
    def bell(self) -> int:
        return -self.id


class Member(NamedTuple):
    group: Group
    name: str
    session: float  # seconds


def find_group(connection: sqlite3.Connection, name: str, topic: str) -> Group:
    """Made at its first use. Raises Unavailable if there is no such topic."""
    if connection.execute("SELECT 1 FROM topics WHERE name = ?", (topic,)).fetchone() is None:
        raise Unavailable(f"topic {topic} does not exist; `saga topics apply` creates those of the App's sagas and participants")
    connection.execute("INSERT INTO groups (name, topic) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, topic))
    row = connection.execute("SELECT id FROM groups WHERE name = ? AND topic = ?", (name, topic)).fetchone()
    return Group(row[0], name, topic)


def join(connection: sqlite3.Connection, member: Member, now: float) -> Seen:
    """Join, or join again: what was owned is given up."""
    group = member.group.id
    connection.execute(
        "INSERT INTO members VALUES (?, ?, ?, ?, 1, -1, 0, 0) "
        "ON CONFLICT DO UPDATE SET session = excluded.session, expires = excluded.expires, joining = 1, first = 0, count = 0",
        (group, member.name, member.session, now + member.session),
    )
    _call(connection, group, now, member.session)
    return _see_to(connection, member, now)


def renew(connection: sqlite3.Connection, member: Member, now: float) -> tuple[Seen, bool]:
    """Renew the lease and do what is due for the group; how the member stands, and whether the group has changed by that."""
    before = _state(connection, member.group.id)
    row = (now + member.session, member.group.id, member.name)
    connection.execute("UPDATE members SET expires = ? WHERE group_id = ? AND name = ?", row)
    seen = _see_to(connection, member, now)
    return seen, _state(connection, member.group.id) != before


def leave(connection: sqlite3.Connection, member: Member, now: float) -> None:
    """The others share what it had."""
    group = member.group.id
    if connection.execute("DELETE FROM members WHERE group_id = ? AND name = ?", (group, member.name)).rowcount:
        _call(connection, group, now, member.session)
        _see_to(connection, member, now)


def look(connection: sqlite3.Connection, member: Member, now: float) -> Seen:
    """How the member stands; reads only."""
    generation, closes = _state(connection, member.group.id)
    ends = [closes - now] if closes is not None else []
    standing, owned = Standing.DROPPED, frozenset[int]()
    for name, expires, joining, given, first, count in connection.execute(
        "SELECT name, expires, joining, generation, first, count FROM members WHERE group_id = ?", (member.group.id,)
    ):
        if name != member.name:
            ends.append(expires - now)
        elif joining:
            standing = Standing.JOINING
        else:
            standing = Standing.OWNER if closes is None and given == generation else Standing.CALLED
            owned = frozenset(range(first, first + count))
    return Seen(standing, owned, max(0.0, min([*ends, member.session])))


def commit(connection: sqlite3.Connection, member: Member, positions: Mapping[TopicPartition, int]) -> None:
    """Raises LostOwnership if the group has gone on without this member, or a partition of its topic is not its own."""
    row = connection.execute(
        "SELECT m.first, m.count, m.generation = g.generation FROM members m JOIN groups g ON g.id = m.group_id "
        "WHERE m.group_id = ? AND m.name = ?",
        (member.group.id, member.name),
    ).fetchone()
    if row is None or not row[2]:
        raise LostOwnership(f"group {member.group.name}: {member.name} is not in it any more")
    first, count, _ = row
    foreign = sorted(p.partition for p in positions if p.topic == member.group.topic and not first <= p.partition < first + count)
    if foreign:
        raise LostOwnership(f"group {member.group.name}: commit for {foreign}, owned are {count} from {first} on")
    connection.executemany(
        "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)",
        [(member.group.name, *partition, offset) for partition, offset in positions.items()],
    )


def committed(connection: sqlite3.Connection, group: Group, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    rows = connection.execute("SELECT topic, partition, offset FROM offsets WHERE group_name = ?", (group.name,))
    found = {TopicPartition(topic, number): offset for topic, number, offset in rows}
    return {each: found[each] for each in partitions if each in found}


def _state(connection: sqlite3.Connection, group: int) -> tuple[int, float | None]:
    generation, closes = connection.execute("SELECT generation, closes FROM groups WHERE id = ?", (group,)).fetchone()
    return generation, closes


def _call(connection: sqlite3.Connection, group: int, now: float, patience: float) -> None:
    """Begin a round, if none is under way: it lasts `patience` seconds at most."""
    connection.execute("UPDATE groups SET closes = ? WHERE id = ? AND closes IS NULL", (now + patience, group))


def _see_to(connection: sqlite3.Connection, member: Member, now: float) -> Seen:
    """1 drop whose lease has ended · 2 close the round if all have joined or its time is over · 3 how the member stands."""
    group, session = member.group.id, member.session
    ended = "DELETE FROM members WHERE group_id = ? AND (expires <= ? OR expires > ? + session)"
    if connection.execute(ended, (group, now, now)).rowcount:
        _call(connection, group, now, session)
    _, closes = _state(connection, group)
    if closes is not None:
        (missing,) = connection.execute("SELECT count(*) FROM members WHERE group_id = ? AND NOT joining", (group,)).fetchone()
        if not missing or not now < closes <= now + _longest(connection, group, session):
            _share(connection, member.group)
    return look(connection, member, now)


def _longest(connection: sqlite3.Connection, group: int, session: float) -> float:
    """A round that would last longer than any member's session is one from before the machine was started anew."""
    (longest,) = connection.execute("SELECT max(session) FROM members WHERE group_id = ?", (group,)).fetchone()
    return max(session, longest or 0.0)


def _share(connection: sqlite3.Connection, group: Group) -> None:
    """Kafka's range assignment: consecutive numbers, the first members get one more where it does not divide."""
    connection.execute("DELETE FROM members WHERE group_id = ? AND NOT joining", (group.id,))
    (partitions,) = connection.execute("SELECT partitions FROM topics WHERE name = ?", (group.topic,)).fetchone()
    names = [row[0] for row in connection.execute("SELECT name FROM members WHERE group_id = ? ORDER BY name", (group.id,))]
    connection.execute("UPDATE groups SET generation = generation + 1, closes = NULL WHERE id = ?", (group.id,))
    generation, _ = _state(connection, group.id)
    begin = 0
    for index, name in enumerate(names):
        count = partitions // len(names) + (index < partitions % len(names))
        connection.execute(
            "UPDATE members SET joining = 0, generation = ?, first = ?, count = ? WHERE group_id = ? AND name = ?",
            (generation, begin, count, group.id, name),
        )
        begin += count

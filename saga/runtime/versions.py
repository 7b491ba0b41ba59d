"""Versions side by side: whose code may decide for an instance, and what becomes of one whose version is not at hand (S5).

While a deployment rolls, orchestrators of old and of new code share the partitions, and an instance of version 2 may come to a
process that knows version 1 only. The naive ways: that process takes it (its inputs park it, an event that only version 2 waits for
concerns nobody and is passed over, and afterwards somebody has to retry every instance), or it refuses for ever (after a rollback all
that shares the partition stands still, for the sake of one instance). The way taken:

    the code is behind            it waits before it claims, a while: newer code is on its way, and takes the partition meanwhile
    nobody came                   it takes the partition: the others must go on. What comes for the instance parks it, and is kept
    its version is there again    whoever takes the partition lets it go on, with what was kept; no operator has to

Code is behind if instances live that run a newer version than any it has; or a saga that it has not, while it has nothing itself that
the journal does not know. A version that was retired too early is no reason to wait: nobody with it is on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from saga.cloudevents import CloudEvent
from saga.engine.actions import RESUME
from saga.engine.book import Book
from saga.engine.messages import REQUESTS
from saga.engine.state import Instance
from saga.log.base import Outgoing, TopicPartition
from saga.runtime.codec import SOURCE, decode_instance
from saga.runtime.fold import Fold

# How long code that is behind gives way. Longer than a process takes to be replaced and its group to settle; short enough that the
# rest of the partition can bear it, each time that it is taken over by code that is behind.
GIVE_WAY_SECONDS = 60.0
VERSION = "version"  # why an instance is parked that runs a version which is not registered


def fits(book: Book, state: Instance) -> bool:
    """Is the very version that an instance runs registered, with the same structure?"""
    saga = book.definition(state.saga, state.version)
    return saga is not None and saga.runs(state)


def behind(book: Book, fold: Fold) -> str:
    """Which live instances need newer code than this, in words; "" if none does. One that is parked already can wait without us."""
    newer = _newer(book, fold)
    if not newer:
        return ""
    lacking = Counter(
        f"{state.saga} version {state.version}"
        for state in fold.states()
        if state.live and f"{state.saga} {state.version}" in newer and not (state.parked and state.parked.holds)
    )
    named = ", ".join(f"{count} of {name}" for name, count in sorted(lacking.items()))
    return f"instances live that need newer code than this: {named}" if lacking else ""


def back(book: Book, fold: Fold) -> Iterator[Outgoing]:
    """A `resume` for each instance that is parked because its version was not registered, and now is.

    It goes the way of any operator's action, through `saga.requests`, under an id that says what it is: told twice it counts once. And
    only for that reason: told by two owners, the second must not wave through what has parked the instance since.
    """
    for encoded in fold.instances.values():
        if b'"reason":"version"' not in encoded:  # to decode all of them is the longest part of a restore
            continue
        state = decode_instance(encoded)
        if state.live and state.parked is not None and state.parked.reason == VERSION and fits(book, state):
            why = f"version {state.version} is registered again"
            data = {"saga": state.saga, "key": state.key, "who": SOURCE, "why": why, "parked": VERSION}
            event = CloudEvent(RESUME, f"{state.id}:{state.seq}:back", SOURCE, data, subject=state.key)
            yield Outgoing(TopicPartition(REQUESTS, fold.partition.partition), event.record(state.key.encode()))


def _newer(book: Book, fold: Fold) -> set[str]:
    """The definitions in the journal that tell that this code is behind, as "<saga> <version>"."""
    ours = {f"{saga.name} {saga.version}" for saga in book.all()}
    nothing_new = ours <= fold.outlines.keys()
    found = set()
    for name in fold.outlines.keys() - ours:
        saga, _, version = name.rpartition(" ")
        newest = book.sagas.get(saga)
        if nothing_new if newest is None else newest.version < int(version):
            found.add(name)
    return found

"""Consumer groups of the in-memory log: who owns which partition of one topic.

It is the eager protocol of Kafka, as aiokafka speaks it: on any change every member must give up all it has and join again; who
does not within the rebalance time-out is left behind, and who is silent for the session time-out is dropped. Both learn it only
when they next look. So two members may believe for a while that they own the same partition, which is what users must survive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context

from saga.errors import LostOwnership
from saga.log.base import TopicPartition


class Member:
    """One member, as the group sees it."""

    def __init__(self, member_id: str) -> None:
        self.id = member_id
        self.changed = asyncio.Event()  # it must give up what it has and join again
        self.joining: asyncio.Future[frozenset[int] | None] | None = None
        self.generation = -1
        self.silence: asyncio.TimerHandle | None = None


class Group:
    """A consumer group on one topic; time-outs in seconds."""

    def __init__(self, partitions: Callable[[], int], session_timeout: float, rebalance_timeout: float) -> None:
        self.generation = 0
        self.offsets: dict[TopicPartition, int] = {}
        self.members: dict[str, Member] = {}
        self._partitions = partitions
        self._session_timeout = session_timeout
        self._rebalance_timeout = rebalance_timeout
        self._deadline: asyncio.TimerHandle | None = None  # set while a rebalance is under way

    def join(self, member: Member) -> asyncio.Future[frozenset[int] | None]:
        """Join, or join again; the future gives what it owns, or None if it was dropped meanwhile."""
        joining: asyncio.Future[frozenset[int] | None] = asyncio.get_running_loop().create_future()
        member.joining = joining
        member.changed.clear()
        self.members[member.id] = member
        self._begin()
        return joining

    def leave(self, member: Member) -> None:
        """The member goes: the others share what it had."""
        if self.members.get(member.id) is not member:
            return
        del self.members[member.id]
        if member.silence is not None:
            member.silence.cancel()
            member.silence = None
        joining, member.joining = member.joining, None
        if joining is not None and not joining.done():
            joining.set_result(None)
        member.changed.set()
        self._begin()

    def silent(self, member: Member) -> None:
        """Nothing is heard of the member any more: drop it after the session time-out."""
        if member.silence is None and self.members.get(member.id) is member:
            member.silence = _later(self._session_timeout, self.leave, member)

    def heard(self, member: Member) -> None:
        """The member is back."""
        if member.silence is not None:
            member.silence.cancel()
            member.silence = None

    def commit(self, member: Member, positions: Mapping[TopicPartition, int]) -> None:
        """Raises LostOwnership if the group has moved on without this member."""
        if self.members.get(member.id) is not member or member.generation != self.generation:
            raise LostOwnership(f"{member.id} is not a member of the group's generation {self.generation}")
        self.offsets.update(positions)

    def _begin(self) -> None:
        if self._deadline is None and self.members:
            self._deadline = _later(self._rebalance_timeout, self._complete)
            for member in self.members.values():
                if member.joining is None:
                    member.changed.set()
        if all(member.joining is not None for member in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        """Close the round: leave behind who did not join again, share the partitions among the others."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        for member in [each for each in self.members.values() if each.joining is None]:
            del self.members[member.id]
            self.heard(member)
        self.generation += 1
        shares = _ranges(self._partitions(), len(self.members))
        for member, share in zip(sorted(self.members.values(), key=lambda each: each.id), shares, strict=True):
            joining, member.joining = member.joining, None
            member.generation = self.generation
            if joining is not None and not joining.done():
                joining.set_result(share)


def _ranges(partitions: int, members: int) -> list[frozenset[int]]:
    """Kafka's range assignment: consecutive partitions, the first members get one more where it does not divide."""
    shares: list[frozenset[int]] = []
    begin = 0
    for index in range(members):
        size = partitions // members + (index < partitions % members)
        shares.append(frozenset(range(begin, begin + size)))
        begin += size
    return shares


def _later(seconds: float, callback: Callable[..., None], *args: Member) -> asyncio.TimerHandle:
    """A timer of the cluster itself: in an empty context, so that it belongs to no process and outlives each."""
    return asyncio.get_running_loop().call_later(seconds, callback, *args, context=Context())

"""Following partitions through one Kafka client: one fetch at a time for each broker, whoever waits for what comes.

aiokafka's consumer is not used here. It asks again only when all of its last answer was taken, so a busy partition holds up the others;
and what one fetch costs it in Python was the largest part of a saga at a low rate (see `kafka_fetch`). So:

- All readers of a process share one follower, one connection and one session for each broker: five participants wait with one long poll.
- A broker is asked as soon as somebody waits or looks, and only then. So an idle system learns of a record at once; a busy one takes with
  one request what has come meanwhile for all, and nothing has to be tuned.
- What comes for a partition that is busy is kept for it, up to a bound; then it is left out of the requests until it is taken.

An answer may be late: a partition may have been unassigned, or assigned anew elsewhere, since it was asked for. So each assignment is an
object of its own (`Followed`), and what is not for it, from where it is now, is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from saga.errors import Unavailable
from saga.log.base import StoredRecord, TopicPartition
from saga.log.kafka_client import Background, Cluster, connecting, cut, end_tasks, said, within
from saga.log.kafka_fetch import FetchAnswer, Limits, Part, Session, end_of
from saga.log.kafka_records import Lump
from saga.log.kafka_wire import ask

logger = logging.getLogger(__name__)

LONG_POLL_MS = 200  # a fetch under way delays the first one after `follow` by as much, since a broker answers in turn
ANSWER_BYTES, PARTITION_BYTES = 50 * 1024 * 1024, 1024 * 1024  # of one answer at most, as aiokafka and Java have it
# Of a partition, in lumps that nobody has taken. One full answer is not more than that, so the next is fetched while it is taken: to be
# left out of a request costs a long poll when the other partitions are idle. The last lump may be as large again.
KEPT_BYTES = PARTITION_BYTES
RETRY = 0.1  # seconds after a failure, before a broker is asked again
NOBODY = frozenset((None, -1))  # how aiokafka calls the leader of a partition that has none
MOVED = (NotLeaderForPartitionError, LeaderNotAvailableError, UnknownTopicOrPartitionError)  # in the ordinary course of things


class Followed:
    """One assignment of one partition: `position` is up to where it was taken, `ahead` up to where it was fetched."""

    def __init__(self, follower: Follower, ours: TopicPartition, offset: int) -> None:
        self.follower = follower
        self.position = offset
        self.ahead = offset
        self.heard = follower.asking  # when its broker last answered, on the follower's clock
        self.rests_until = 0.0  # on the loop's clock: its broker has just said that it does not lead it
        self.refusal = ""  # what it said then
        self.failure: KafkaError | None = None  # for whoever takes next
        self.waiters: set[asyncio.Future[None]] = set()
        self._ours = ours
        self._lumps: deque[Lump] = deque()
        self._kept = 0

    @property
    def full(self) -> bool:
        """Whether there is nothing more to be fetched for now: enough is here, or a failure that nobody has been told of."""
        return self._kept > KEPT_BYTES or self.failure is not None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be taken, not even a failure."""
        return not self._lumps and self.failure is None

    def put(self, part: Part) -> None:
        """Keep what was fetched from `ahead`. Raises KafkaError for bytes that are no batches."""
        end = end_of(part.records, self.ahead)
        if end == self.ahead:
            raise KafkaError(f"{len(part.records)} bytes without a whole batch")
        self._lumps.append(Lump(self._ours, part.records, part.aborted, self.ahead))
        self._kept += len(part.records)
        self.ahead = end
        self.refusal = ""

    def take(self, limit: int) -> list[StoredRecord]:
        """Up to `limit` records of what is here. Raises KafkaError where it cannot be read; then it is fetched again, from `position`."""
        taken: list[StoredRecord] = []
        full = self.full
        try:
            while self._lumps and len(taken) < limit:
                lump = self._lumps[0]
                lump.take(taken, limit)
                self.position = lump.next_fetch_offset
                if lump.done:
                    self._kept -= lump.size
                    self._lumps.popleft()
            if self.failure is not None and not taken:
                failure, self.failure = self.failure, None
                raise failure
        except KafkaError:
            if self._lumps:
                self.position = self._lumps[0].next_fetch_offset
                self._lumps.clear()
            self._kept, self.ahead = 0, self.position
            if not taken:
                raise
        finally:
            if full and not self.full:  # it was not asked for meanwhile: that is no silence
                self.heard = self.follower.asking
                self.follower.room()
        return taken

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class Follower:
    """One client that follows partitions, for any number of readers. It finds brokers again by itself."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._clock = asyncio.get_running_loop().time
        self._client: Any = None
        self._followed: dict[Any, Followed] = {}
        self._serving: dict[Any, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._unserved = asyncio.Event()  # a partition may have a broker that is not asked for it
        self._room = asyncio.Event()
        self._waiting = 0
        self._wanted = asyncio.Event()  # somebody waits
        self._idle, self._idle_since = 0.0, self._clock()
        self.problem = ""  # what was wrong with the last answer, if it did not come

    async def open(self) -> None:
        """Raises Unavailable."""
        self._client = AIOKafkaClient(**self._cluster.settings("inputs"))
        try:
            with connecting(self._cluster):
                await within(self._cluster.timeout, self._client.bootstrap())
        except BaseException:
            self._background.start(cut(self._client))
            raise
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        tasks = [*self._serving.values(), *([self._watching] if self._watching else [])]
        self._background.start(_abandon(tasks, self._client))

    def follows(self, partition: Any) -> bool:
        return partition in self._followed

    def follow(self, partition: Any, followed: Followed) -> None:
        """Fetch this one too, which it must not follow already."""
        assert partition not in self._followed, f"{partition} is followed already"
        self._followed[partition] = followed
        self._client.set_topics({each.topic for each in self._followed})
        self._unserved.set()
        self._room.set()

    def unfollow(self, partition: Any) -> None:
        del self._followed[partition]
        if self._followed:
            self._client.set_topics({each.topic for each in self._followed})
        self._room.set()

    # --- who waits --------------------------------------------------------------------------------------------------------------------

    def wait(self, waiting: int) -> None:
        """So many more wait for what comes (or fewer, below 0). Brokers are asked only while somebody waits."""
        if self._waiting == 0:
            self._idle += self._clock() - self._idle_since
            self._wanted.set()
        self._waiting += waiting
        if self._waiting == 0:
            self._idle_since = self._clock()
            self._wanted.clear()

    def ask_once(self) -> None:
        """For one who does not wait, but comes again: brokers that are not being asked are asked once."""
        self._wanted.set()
        if not self._waiting:
            self._wanted.clear()  # those who stood there go on all the same

    def room(self) -> None:
        """A partition that was full may be fetched again."""
        self._room.set()

    @property
    def asking(self) -> float:
        """A clock that stands still while nobody waits, in seconds: a broker that is not asked is not silent."""
        return (self._clock() if self._waiting else self._idle_since) - self._idle

    # --- brokers ----------------------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """See to it that each partition has a broker that is asked for it."""
        while True:
            try:
                self._unserved.clear()
                if not self._serve_all():
                    await self._client.force_metadata_update()
                    if not self._serve_all():
                        await asyncio.sleep(RETRY)
                        continue
                await self._unserved.wait()
            except Exception:  # a bug, of ours or aiokafka's: who waits is told of the silence
                logger.exception("looking for brokers")
                await asyncio.sleep(RETRY)

    def _serve_all(self) -> bool:
        """Ask all brokers that lead what is followed; false if there is a partition that none is known to lead."""
        leaders = {self._client.cluster.leader_for_partition(partition) for partition in self._followed}
        for node in leaders - NOBODY - self._serving.keys():
            self._serving[node] = asyncio.get_running_loop().create_task(self._serve(node))
        return not leaders & NOBODY

    async def _serve(self, node: Any) -> None:
        try:
            await self._fetch_from(node)
        except Exception:  # a bug of ours, and perhaps only of what came
            logger.exception("fetching from node %s", node)
            await asyncio.sleep(RETRY)
        finally:
            del self._serving[node]  # in the step in which it ends: who looks sees one that serves, or none
            self._unserved.set()

    async def _fetch_from(self, node: Any) -> None:
        """Fetch from one broker, for as long as it leads something that is followed."""
        session = Session(Limits(LONG_POLL_MS, ANSWER_BYTES, PARTITION_BYTES))
        while True:
            await self._wanted.wait()
            self._room.clear()
            led, asked = self._led(node)
            if not led:
                return
            if not asked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY):
                        await self._room.wait()
                continue
            wanted = {partition: followed.ahead for partition, followed in asked.items()}
            try:
                answer: FetchAnswer = await ask(self._client, node, session.ask(wanted))
                if session.answered(answer):
                    self._arrived(answer, asked, wanted)
                    continue
                problem = said(for_code(answer.error)())
            except KafkaError as error:
                session.lost()
                problem = said(error)
            if problem != self.problem:  # one line for each kind of trouble, not ten a second
                logger.warning("fetching from node %s: %s", node, problem)
            self.problem = problem
            await asyncio.sleep(RETRY)

    def _led(self, node: Any) -> tuple[int, dict[Any, Followed]]:
        """How many partitions a broker leads of those that are followed; and which of them to ask it for now."""
        led, asked, now = 0, {}, self._clock()
        leader_of = self._client.cluster.leader_for_partition
        for partition, followed in self._followed.items():
            leader = leader_of(partition)
            if leader == node:
                led += 1
                if not followed.full and followed.rests_until <= now:
                    asked[partition] = followed
            elif leader not in self._serving:
                self._unserved.set()
        return led, asked

    def _arrived(self, answer: FetchAnswer, asked: Mapping[Any, Followed], wanted: Mapping[Any, int]) -> None:
        """Keep what came for those who still want it; no word of a partition means that it has nothing new."""
        self.problem, asking = "", self.asking
        refused = {part.partition for part in answer.parts if part.error}
        for partition, each in asked.items():
            if partition not in refused:
                each.heard = asking
        for part in answer.parts:
            partition = part.partition
            if (
                (followed := asked.get(partition)) is None
                or self._followed.get(partition) is not followed
                or followed.ahead != wanted[partition]
            ):
                continue  # unassigned meanwhile, or assigned anew
            if part.error:
                self._refused(part, followed)
            elif part.records:
                try:
                    followed.put(part)
                except KafkaError as error:
                    followed.failure = error
            else:
                continue
            followed.wake()

    def _refused(self, part: Part, followed: Followed) -> None:
        """What a broker will not give us is told to whoever waits for it; what it does not lead, another does or will."""
        error = for_code(part.error)
        if error in (OffsetOutOfRangeError, TopicAuthorizationFailedError):
            followed.failure = error()
            return
        self.problem = f"{part.partition.topic}:{part.partition.partition}: {error.__name__}"
        if followed.refusal != error.__name__:  # said once, not ten times a second
            logger.log(logging.INFO if error in MOVED else logging.WARNING, "fetching: %s", self.problem)
        followed.refusal = error.__name__
        followed.rests_until = self._clock() + RETRY
        self._client.force_metadata_update()
        self._unserved.set()


class Followers:
    """The followers of a process: one, unless two readers follow the same partition."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._opening = asyncio.Lock()
        self._open: list[Follower] = []
        self._closed = False

    async def free_for(self, partition: Any) -> Follower:
        """One that does not follow this partition; it is true until the caller's next await. Raises Unavailable."""
        async with self._opening:
            for follower in self._open:
                if not follower.follows(partition):
                    return follower
            follower = Follower(self._cluster, self._background)
            await follower.open()
            if self._closed:
                follower.close()
                raise Unavailable("the log is closed")
            self._open.append(follower)
            return follower

    def close(self) -> None:
        self._closed = True
        while self._open:
            self._open.pop().close()


async def _abandon(tasks: Iterable[asyncio.Task[Any]], client: Any) -> None:
    await end_tasks(tasks)
    await cut(client)

"""A process that uses a file log, for tests that kill and stop it: `python -m tests.log.file_process FOLDER append|own ARGUMENTS`.

append NAME BATCHES  appends so many batches of three records to t:0, and prints a line with the offset of each that was acknowledged
own SESSION          joins the group `g` on topic `t`, prints what it is told; a line on stdin makes it commit an offset of what it owns
"""

from __future__ import annotations

import asyncio
import sys

from saga.errors import LostOwnership
from saga.log.base import Record, TopicPartition
from saga.log.file import FileLog

BATCH = 3


def say(*words: object) -> None:
    print(*words, flush=True)


class Telling:
    def __init__(self) -> None:
        self.last: frozenset[int] = frozenset()

    def assigned(self, partitions: frozenset[int]) -> None:
        self.last = partitions
        say("assigned", *sorted(partitions))

    async def revoked(self, partitions: frozenset[int]) -> None:
        say("revoked", *sorted(partitions))


async def append(log: FileLog, name: str, batches: int) -> None:
    for number in range(batches):
        words = [f"{name}-{number}-{part}" for part in range(BATCH)]
        stands = await log.append(TopicPartition("t", 0), [Record(None, word.encode(), (("n", b"x" * 500),)) for word in words])
        say(name, number, stands.offset)


async def own(log: FileLog) -> None:
    listener = Telling()
    membership = await log.join("g", "t", listener)
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            await membership.commit({TopicPartition("t", min(listener.last)): 7})
            say("committed")
        except LostOwnership:
            say("lost")


async def main() -> None:
    folder, role, *rest = sys.argv[1:]
    log = FileLog(folder, client_id="child", session_timeout=float(rest[0]) if role == "own" else 10.0)
    await log.open()
    say("open")
    await (own(log) if role == "own" else append(log, rest[0], int(rest[1])))
    await log.close()


if __name__ == "__main__":
    asyncio.run(main())

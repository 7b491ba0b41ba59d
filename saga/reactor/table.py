"""A table of a reactor: a dictionary that survives its process, and forgets nothing that was acknowledged.

A Faust table is a dictionary whose every change is first a record of its changelog, a compacted topic that it is read back from. Faust
writes there in the background and acknowledges an event whether or not that write succeeded; a crash in between would lose the row. So
here a row is in the changelog before it is in the dictionary, and in the dictionary before its event is acknowledged.

The rows of all partitions lie in one dictionary, under <partition>/<key>: what moves to another process leaves its rows behind, and
they must be told from those that are kept here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any


class Table:
    """Rows of bytes by partition and key."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def changelog(self) -> str:
        """The name of its topic, with the prefix."""
        return str(self._table.changelog_topic_name)

    def get(self, partition: int, key: str) -> bytes | None:
        found: bytes | None = self._table.data.get(_key(partition, key))
        return found

    async def put(self, partition: int, key: str, row: bytes) -> None:
        """Keep a row; when this returns it is safe."""
        await self._table.send_changelog(partition, _key(partition, key), row)
        self._table.data[_key(partition, key)] = row

    async def remove(self, partition: int, key: str) -> None:
        await self._table.send_changelog(partition, _key(partition, key), None)
        del self._table.data[_key(partition, key)]

    def rows(self, partitions: Collection[int]) -> Iterator[tuple[str, bytes]]:
        """The rows of these partitions, by key."""
        for raw, row in list(self._table.data.items()):
            partition, _, key = raw.decode().partition("/")
            if int(partition) in partitions:
                yield key, row


def _key(partition: int, key: str) -> bytes:
    return f"{partition}/{key}".encode()

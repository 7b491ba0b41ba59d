"""The records in what was fetched; and two kinds of data at which aiokafka 0.14 stops for ever, and how we step over them.

- A control batch that compaction has emptied ("Control batch did not contain any records"). The Java client takes it for "no abort
  marker" and goes on (FetchedRecords.containsAbortMarker); so do we.
- A header key that is not UTF-8, which any foreign producer can write. The record is handed out with the bad bytes escaped
  (backslash-x), so that the reader above can dead-letter it.

Both are raised from inside the parsing of a fetched lump, which would be fetched and fail again; so they have to be handled there.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher  # type: ignore[import-untyped]
from aiokafka.errors import CorruptRecordException, KafkaError  # type: ignore[import-untyped]
from aiokafka.record.default_records import _DefaultRecordBatchPy  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy  # type: ignore[import-untyped]

from saga.log.base import StoredRecord, TopicPartition

logger = logging.getLogger(__name__)

stepped_over = {"empty control batch": 0, "header key": 0}


def install() -> None:
    """Make aiokafka's fetcher use the parsing of this module. Doing it again changes nothing."""
    fetcher.MemoryRecords = _Lump
    fetcher.PartitionRecords = _Records


class _Lump:
    """Fetched bytes, parsed by aiokafka's fast parser, and kept for the lenient one."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        parsed = MemoryRecords(data)
        self.has_next, self.next_batch, self.size_in_bytes = parsed.has_next, parsed.next_batch, parsed.size_in_bytes


class _Records(fetcher.PartitionRecords):  # type: ignore[misc]
    _records: Any

    def _contains_abort_marker(self, next_batch: Any) -> bool:
        try:
            return bool(super()._contains_abort_marker(next_batch))
        except KafkaError:
            stepped_over["empty control batch"] += 1
            logger.warning("%s: stepped over an empty control batch at %d", self._tp, next_batch.base_offset)
            return False

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except UnicodeDecodeError:
            return self._leniently()

    def _leniently(self) -> Any:
        """The record at which the fast parser has stopped."""
        stepped_over["header key"] += 1
        logger.warning("%s: a header key at or after %d is not UTF-8", self._tp, self.next_fetch_offset)
        # The batches before this one are done, also as to aborted transactions: go on within it.
        self._records = _LenientLump(self._records.data, self.next_fetch_offset)
        self._records_iterator = self._unpack_records()
        return super().__next__()


class Lump(_Records):
    """What one fetch gave of one partition, from `offset` on, without what aborted transactions wrote.

    `next_fetch_offset` is up to where it was taken, markers of transactions included; `done` says that nothing is left of it.
    """

    def __init__(self, ours: TopicPartition, data: bytes, aborted: list[tuple[int, int]], offset: int) -> None:
        super().__init__(ours, _Lump(data), aborted, offset, None, None, True, fetcher.READ_COMMITTED)
        self.size = len(data)
        self.done = False

    def take(self, taken: list[StoredRecord], limit: int) -> None:
        """Add records until there are `limit`. Raises KafkaError where they cannot be read, after those before it."""
        try:
            while not self._took(taken, limit):
                taken.append(self._leniently())
        except KafkaError:
            raise
        except Exception as error:  # each codec has errors of its own; and to go on would skip what is behind it
            raise CorruptRecordException(f"a batch cannot be unpacked at {self.next_fetch_offset}: {error!r}") from error

    def _took(self, taken: list[StoredRecord], limit: int) -> bool:
        """False if the fast parser has ended at a header key: the lenient one begins at this record."""
        try:
            taken.extend(islice(self._records_iterator, limit - len(taken)))
        except UnicodeDecodeError:
            return False
        self.done = len(taken) < limit
        return True

    def _consumer_record(self, tp: TopicPartition, record: Any) -> StoredRecord:
        return stored(tp.topic, tp.partition, record)


def stored(topic: str, partition: int, record: Any) -> StoredRecord:
    """aiokafka's record as ours. A header without a value has an empty one here."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return StoredRecord(topic, partition, record.offset, record.timestamp, record.key, record.value, headers)


class _LenientLump:
    """The batches of a lump from the one that holds `offset` on, for which any header key will do."""

    def __init__(self, data: bytes, offset: int) -> None:
        parsed = _MemoryRecordsPy(data)
        self._batches: list[Any] = []
        while parsed.has_next():
            batch = _LenientBatch(parsed._next_slice)
            parsed._cache_next()
            if batch.next_offset > offset:
                self._batches.append(batch)

    def has_next(self) -> bool:
        return bool(self._batches)

    def next_batch(self) -> Any:
        return self._batches.pop(0)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: Any

    def __iter__(self) -> Any:
        self._maybe_uncompress()
        self._buffer = _LenientBytes(self._buffer)
        return self


class _LenientBytes(bytearray):
    """Bytes whose slices decode whatever they hold; the parser decodes nothing but header keys."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _LenientBytes(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - bytearray's signature
        return super().decode(encoding, "backslashreplace")

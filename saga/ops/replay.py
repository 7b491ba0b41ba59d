"""`saga replay`: fold the journal again from where its history begins, compare, and count. It reads; it sends and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from saga.cloudevents import iso_time, parse_time
from saga.engine.state import split_instance
from saga.errors import Corrupt, Misconfigured
from saga.log.base import Bounds, Log, TopicPartition
from saga.ops.lines import Tone
from saga.ops.listing import as_json
from saga.ops.look import RACES, Journals
from saga.ops.output import FAILED, OK, PROBLEMS, Output, progress_bar
from saga.ops.refold import Refold, Until
from saga.ops.why import label
from saga.ops.words import counted
from saga.runtime.fold import Fold

HEADINGS = ("PARTITION", "OFFSETS", "BATCHES", "VOID", "CLAIMS", "SNAPSHOTS", "DECISIONS", "INSTANCES", "RESULT")


@dataclass(frozen=True)
class Asked:
    """What is to be replayed: one partition or (None) all, up to where."""

    partition: int | None
    until: Until


@dataclass
class Replayed:
    """What came of one partition. `restored_from`: where the second fold began; None if there was none to be compared."""

    refold: Refold
    restored_from: int | None = None

    def row(self) -> tuple[Tone, tuple[str, ...]]:
        one, counts = self.refold, self.refold.counts
        phases = ", ".join(f"{count} {phase}" for phase, count in sorted(one.phases().items())) or "none"
        numbers = (counts.batches, counts.void, counts.claims, counts.snapshots, counts.decisions)
        place = (str(one.partition), f"{one.start} – {one.fold.next - 1}" if one.fold.next > one.start else "empty")
        return (Tone.STUCK if one.problem else Tone.PLAIN), (*place, *map(str, numbers), phases, self.result())

    def result(self) -> str:
        one = self.refold
        if one.problem:
            return f"DIFFERS: {one.problem}"
        if not one.fold.complete:
            return "stops before the snapshot that it begins with has ended: not all instances are known"
        compared = [f"{one.counts.snapshots} snapshots"] if one.counts.snapshots else []
        compared += [f"the fold from {self.restored_from}"] if self.restored_from is not None else []
        trimmed = f"; history begins at {one.start}" if one.start else ""
        return (f"the same as {' and '.join(compared)}" if compared else "nothing to compare with") + trimmed

    def to_json(self) -> dict[str, Any]:
        one = self.refold
        named = one.instance() if one.until.instance else None
        return {
            "partition": one.partition.partition,
            "begins": one.start,
            "ends": one.fold.next,
            "from": None if one.began is None else iso_time(one.began),
            "to": None if one.began is None else iso_time(one.fold.now),
            **asdict(one.counts),
            "instances": dict(sorted(one.phases().items())),
            "complete": one.fold.complete,
            "restored_from": self.restored_from,
            "problem": one.problem or None,
        } | ({} if named is None else {"instance": as_json(named)})


async def replay(log: Log, asked: Asked, output: Output, messages: Console) -> int:
    """Replay and say what came of it; the exit code: 3 if anything differs, 1 if what `--until` names is not in the journal.

    Raises Misconfigured if there is no such partition, Unavailable if the log cannot be reached.
    """
    partitions = await _partitions(log, asked)
    done: list[Replayed] = []
    with progress_bar(messages, "replaying") as tell:
        replayer = _Replayer(log, tell)
        for partition, bounds in (await replayer.open(partitions)).items():
            done.append(await replayer.replay(partition, asked.until, bounds))
    if output.for_people:
        output.table(HEADINGS, [one.row() for one in done])
    else:
        output.values([one.to_json() for one in done])
    return _tell(done, asked.until, output, messages)


def parse_until(text: str) -> Until:
    """A time (ISO 8601 with its zone), a decision (`instance#seq`), or an offset of the journal. Raises Misconfigured."""
    if text.isascii() and text.isdecimal():
        return Until(offset=int(text))
    if found := re.fullmatch(r"(.+)#([1-9]\d*)", text):
        try:
            split_instance(found[1])
        except ValueError:
            raise Misconfigured(f"{found[1]!r} is no instance; one is written saga:key:run, as `saga show` tells it") from None
        return Until(instance=found[1], seq=int(found[2]))
    if (time := parse_time(text)) is not None:
        return Until(time=time)
    raise Misconfigured(
        f"--until takes a time with its zone (2026-01-31T12:00:00Z), a decision (instance#seq) or an offset, not {text!r}"
    )


async def _partitions(log: Log, asked: Asked) -> Sequence[TopicPartition]:
    journals = Journals(log)
    if asked.until.instance:  # it can be in one place only
        home = await journals.home(split_instance(asked.until.instance)[1])
        if asked.partition not in (None, home.partition):
            raise Misconfigured(f"{asked.until.instance} is at home in {home}, not in partition {asked.partition}")
        return [home]
    if asked.partition is None and asked.until.offset is not None:
        raise Misconfigured("an offset is one partition's; say which with --partition")
    return await journals.chosen(asked.partition)


def _tell(done: Sequence[Replayed], until: Until, output: Output, messages: Console) -> int:
    """Say on stderr what a program would not see in the exit code alone, and find that code."""
    missed = until.instance and not any(one.refold.found for one in done)
    beyond = until.offset is not None and not any(one.refold.over for one in done)
    if any(one.refold.problem for one in done):
        for one in done:
            if one.refold.problem:
                messages.print(f"DIFFERS: {one.refold.problem}", markup=False)
        return PROBLEMS
    if missed or beyond:
        what = f"{until.instance}#{until.seq}" if missed else f"offset {until.offset}"
        messages.print(f"saga: {what} is not in what the journal holds; everything was replayed", markup=False)
        return FAILED
    if output.for_people:
        decisions = sum(one.refold.counts.decisions for one in done)
        compared = sum(one.refold.counts.snapshots + (one.restored_from is not None) for one in done)
        came = f"{counted(compared, 'comparison')}, byte for byte, no difference"
        if not compared:
            came = "nothing was compared: there is no snapshot yet (they come as SAGA_SNAPSHOT_BYTES and SAGA_SNAPSHOT_SECONDS say)"
        messages.print(f"{counted(decisions, 'decision')} in {counted(len(done), 'partition')}; {came}", markup=False)
        if until.instance and (state := done[0].refold.instance()) is not None:
            messages.print(f"{state.id} is {label(state)} after decision {state.seq}", markup=False)
    return OK


class _Replayer:
    """Reads partitions and tells how far it is."""

    def __init__(self, log: Log, tell: Callable[[int, int], None]) -> None:
        self._log = log
        self._tell = tell
        self._read = 0
        self._to_read = 0

    async def open(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
        bounds = await self._log.bounds(partitions)
        self._to_read = sum(end - start for start, end in bounds.values())
        return bounds

    async def replay(self, partition: TopicPartition, until: Until, bounds: Bounds) -> Replayed:
        for _ in range(RACES):
            refold = Refold(partition, bounds.start, until)
            try:
                await self._feed(refold, bounds.end)
            except Corrupt:  # of the log, not of the fold: perhaps an owner trimmed what was to be read
                now = (await self._log.bounds([partition]))[partition]
                if refold.counts.records or now.start <= bounds.start:
                    raise
                bounds = now
                continue
            refold.end()
            return Replayed(refold, await self._restored(refold))
        raise Corrupt(f"{partition}: its beginning is trimmed faster than it can be read")

    async def _feed(self, refold: Refold, end: int) -> None:
        async for lump in self._log.read(refold.partition, refold.start, end):
            for record in lump:
                refold.feed(record)
            self._progress(len(lump))
            if refold.over or refold.problem:
                return

    async def _restored(self, refold: Refold) -> int | None:
        """The second fold, as a new owner would make it at that moment; there is none where it would be the first again."""
        start, end = refold.fold.restore_from, refold.fold.next
        if refold.problem or not refold.fold.complete or start <= refold.start:
            return None
        second = Fold(refold.partition, start)
        self._to_read += end - start
        try:
            async for lump in self._log.read(refold.partition, start, end):
                for record in lump:
                    second.feed(record)
                self._progress(len(lump))
            second.check_end()
        except Corrupt as error:
            refold.problem = f"a fold from {start}, where an owner would restore from, fails: {error}"
        else:
            refold.compare(second, f"a fold from {start}, where an owner would restore from,")
        return start

    def _progress(self, records: int) -> None:
        self._read += records
        self._tell(self._read, self._to_read)

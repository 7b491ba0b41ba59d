"""`saga check`: a recorded journal against the code at hand, before that code is deployed. It reads; it joins, sends and writes nothing.

The problem: tests know what the code of today writes and reads. What breaks a deployment is what the code of last month wrote: an
instance whose data a new class does not accept, a command that was sent and cannot be read when it has to be undone, a version that
was taken out while it still runs. All of it stands in the journal, so it can be known beforehand (three modules beside this one):

    check_definitions    what is registered, against what is there
    check_instances      what each live instance holds, against the classes of its version
    check_decisions      what was decided, against what would be decided now

What cannot be checked is said, too.
"""

from __future__ import annotations

from typing import NamedTuple

from rich.console import Console

from saga.engine.book import Book
from saga.log.base import TopicPartition
from saga.ops.check_decisions import Redecide
from saga.ops.check_definitions import check_definitions
from saga.ops.check_findings import Findings, Weight
from saga.ops.check_instances import check_instance
from saga.ops.look import Journals, Readable
from saga.ops.output import Output, progress_bar
from saga.ops.words import counted
from saga.runtime.fold import Fold

HEADINGS = ("SAGA", "VERSION", "LIVE", "DECISIONS", "RESULT", "WHAT")


class Code(NamedTuple):
    """The code at hand: its definitions, and how many partitions its app says there are."""

    book: Book
    partitions: int


class Asked(NamedTuple):
    """What is to be checked: one partition or (None) all; the last so many decisions of each instance, or (None) all there are."""

    partition: int | None = None
    last: int | None = None


async def check(log: Readable, code: Code, asked: Asked, output: Output, messages: Console) -> int:
    """Check, and say what was found; the exit code: 3 if anything breaks, else 0.

    Raises Misconfigured if there is no such partition, Corrupt for a journal that contradicts itself, Unavailable if the log cannot be
    reached.
    """
    found = Findings()
    with progress_bar(messages, "checking") as tell:
        journals = Journals(log, tell)
        chosen = await journals.chosen(asked.partition)
        folds = [await _check_partition(journals, partition, code.book, asked, found) for partition in chosen]
    check_definitions(code.book, code.partitions, folds, found)
    if output.for_people:
        output.table(HEADINGS, found.rows())
        _tell(found, len(folds), messages)
    else:
        output.values(found.to_json())
    return found.exit_code


async def _check_partition(journals: Journals, partition: TopicPartition, book: Book, asked: Asked, found: Findings) -> Fold:
    """What is given back knows the definitions only: a partition's instances are forgotten before the next one is read."""
    redecide = Redecide(book, found, asked.last)
    wanted = asked.last != 0
    start = (await journals.log.bounds([partition]))[partition].start
    fold = await journals.fold(partition, redecide.take if wanted else None, whole=wanted)
    redecide.end()
    for state in fold.states():
        check_instance(book, state, found)
    if start and wanted:
        unknown = f", and of {redecide.unknown} more nobody knows on what they were made" if redecide.unknown else ""
        found.journal.add(Weight.UNCHECKED, f"{partition} was trimmed: what was decided before {start} is not there{unknown}")
    about = Fold(partition)
    about.partitions, about.outlines = fold.partitions, fold.outlines
    return about


def _tell(found: Findings, partitions: int, messages: Console) -> None:
    """The sum on stderr, and what breaks in full: a table is cut to a terminal's width."""
    abouts = found.all()
    for about in abouts:
        for finding in about.findings:
            if finding.weight is Weight.BREAKS:
                name = f"{about.saga} version {about.version}" if about.saga else "the journal"
                messages.print(f"BREAKS {name}: {finding.sentence}", markup=False)
    live, decisions = sum(about.live for about in abouts), sum(about.decisions for about in abouts)
    counts = [(found.count(Weight.BREAKS), "break", "breaks"), (found.count(Weight.DIFFERS), "differ", "differs")]
    said = (
        ", ".join(f"{count} {one if count != 1 else many}" for count, one, many in counts if count) or "nothing breaks or differs"
    )
    unchecked = ", not all could be checked" if found.count(Weight.UNCHECKED) else ""
    messages.print(
        f"{counted(live, 'live instance')} and {counted(decisions, 'decision')} in {counted(partitions, 'partition')} were checked: "
        f"{said}{unchecked}",
        markup=False,
    )

"""A data pipeline: a batch of measurements is collected, cleaned, analysed and loaded; or nothing of it is left.

    START ───▶ collect ───▶ clean ───▶ analyse ───▶ load ───▶ report
              each part                            pivot

A part that nobody can read, or a batch that is mostly damage: what was done so far is undone, and nothing is half loaded. Damaged rows of
an otherwise good batch are set aside, and the clinics are told of each. A source that is down for a while is tried again.

A stage is run again as a new run of the batch (`BatchArrived` with the next `run`): a finished instance stays what it was, so the journal
tells both. `reuse` takes the parts that an earlier run collected, and the new run begins with cleaning. In the warehouse the later run
takes the earlier one's place in one transaction, so that nothing is there twice, or missing, at any moment.
"""

from __future__ import annotations

from pydantic import BaseModel

from saga import START, Retry, Saga, minutes, seconds
from topics.pipeline import (
    AnalyseBatch,
    BadRow,
    BatchAnalysed,
    BatchArrived,
    BatchCleaned,
    CleanBatch,
    CollectPart,
    DropBatch,
    DropPart,
    Figures,
    FindLoad,
    LoadBatch,
    Part,
    PartCollected,
    ReportBatch,
)

SOON = seconds(15)  # our own services answer within a second; one that restarts needs a few, on a slow machine more
SOURCE = Retry(attempts=10, longest=seconds(5))  # a source may be down for half a minute; most are back sooner


class Batch(BaseModel):
    batch_id: str
    run: int
    parts: tuple[Part, ...]
    reuse: int
    repair: bool
    collected: int = 0  # rows
    kept: int = 0
    bad: tuple[BadRow, ...] = ()
    figures: Figures | None = None


pipeline = Saga(
    "pipeline", version=1, starts_on=BatchArrived, key=lambda b: f"{b.batch_id}.{b.run}", data=Batch, deadline=minutes(15)
)


@pipeline.start
def begin(arrived: BatchArrived) -> Batch:
    return Batch.model_validate(arrived.model_dump())


@pipeline.each(lambda b: b.parts, after=START, at_once=3, when=lambda b: not b.reuse, timeout=SOON, retry=SOURCE)
def collect(b: Batch, part: Part) -> CollectPart:
    return CollectPart(batch_id=b.batch_id, run=b.run, part=part)


@collect.done
def collected(b: Batch, _part: Part, reply: PartCollected) -> Batch:
    return b.model_copy(update={"collected": b.collected + reply.rows})


@collect.compensate
def drop_part(_: Batch, part: Part, sent: CollectPart) -> DropPart:
    return DropPart(batch_id=sent.batch_id, run=sent.run, part=part.number)


@pipeline.step(after=collect, timeout=SOON)
def clean(b: Batch) -> CleanBatch:
    return CleanBatch(batch_id=b.batch_id, run=b.run, collected=b.reuse or b.run, parts=len(b.parts), repair=b.repair)


@clean.done
def cleaned(b: Batch, reply: BatchCleaned) -> Batch:
    return b.model_copy(update={"kept": reply.kept, "bad": reply.bad})


@clean.compensate
def drop_batch(_: Batch, sent: CleanBatch) -> DropBatch:
    return DropBatch(batch_id=sent.batch_id, run=sent.run)


@pipeline.step(after=clean, timeout=SOON, compensation=None)  # it reads only; one that fails for good waits for `saga retry`
def analyse(b: Batch) -> AnalyseBatch:
    return AnalyseBatch(batch_id=b.batch_id, run=b.run)


@analyse.done
def analysed(b: Batch, reply: BatchAnalysed) -> Batch:
    return b.model_copy(update={"figures": reply.figures})


@pipeline.step(after=analyse, pivot=True, timeout=SOON)  # what is loaded is seen by all: from here only forward
def load(b: Batch) -> LoadBatch:
    assert b.figures is not None, "analyse comes before load"
    return LoadBatch(batch_id=b.batch_id, run=b.run, figures=b.figures)


@load.verify
def find(_: Batch, sent: LoadBatch) -> FindLoad:
    return FindLoad(batch_id=sent.batch_id, run=sent.run)


@pipeline.step(after=load, timeout=SOON)
def report(b: Batch) -> ReportBatch:
    return ReportBatch(batch_id=b.batch_id, run=b.run, loaded=b.kept, bad=b.bad)

"""The data pipeline: clinics deliver batches of measurements, which are collected, cleaned, analysed and loaded.

Rows do not travel in messages: a stage leaves its result as a file, and says that it is there.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from saga import Command, Event, Refusal
from topics.values import Text, Value

BatchId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]  # it becomes part of file names
Run = Annotated[int, Field(ge=1, le=9999)]


class Part(Value):
    """One piece of a batch, and where it can be had: an http address or the path of a gzipped file."""

    number: int = Field(ge=0, le=999)
    where: Annotated[str, Field(min_length=1, max_length=2000)]


class BadRow(Value):
    """A row that was set aside: the part it came in, its line there (the first after the heading is 1), and why."""

    part: int
    line: int
    reason: Text


class Figures(Value):
    """What the analysis of a batch says: means, and the least-squares line of progression over body mass index."""

    rows: int
    mean_bmi: float
    mean_progression: float
    slope: float
    intercept: float


class BatchArrived(Event, type="clinics.batch-arrived.v1"):
    """A batch can be collected. A later run of it takes the place of an earlier one.

    `reuse` names an earlier run whose collected parts are used again: nothing is fetched, the run begins with cleaning. `repair` lets
    cleaning mend decimal commas, which otherwise count as damage.
    """

    batch_id: BatchId
    run: Run = 1
    parts: tuple[Part, ...] = Field(min_length=1, max_length=100)
    reuse: int = Field(default=0, ge=0)
    repair: bool = False


class PartCollected(Event, type="collector.part-collected.v1"):
    part: int
    rows: int


class PartUnreadable(Refusal, type="collector.part-unreadable.v1"):
    """It is there, but it is not what a part is. To fetch it again would change nothing."""

    part: int
    reason: Text


class PartDropped(Event, type="collector.part-dropped.v1"):
    part: int


class CollectPart(Command[PartCollected], service="collector", refuses=(PartUnreadable,)):
    batch_id: BatchId
    run: Run
    part: Part


class DropPart(Command[PartDropped], service="collector"):
    batch_id: BatchId
    run: Run
    part: int


class BatchReported(Event, type="collector.batch-reported.v1"):
    batch_id: BatchId


class ReportBatch(Command[BatchReported], service="collector"):
    """Tell the clinics what was taken over, and which rows were not and why."""

    batch_id: BatchId
    run: Run
    loaded: int
    bad: tuple[BadRow, ...]


class BatchCleaned(Event, type="cleaner.batch-cleaned.v1"):
    batch_id: BatchId
    kept: int
    bad: tuple[BadRow, ...]


class BatchUnusable(Refusal, type="cleaner.batch-unusable.v1"):
    """So much of it is damaged, or missing, that what is left says nothing."""

    batch_id: BatchId
    reason: Text


class BatchDropped(Event, type="cleaner.batch-dropped.v1"):
    batch_id: BatchId


class CleanBatch(Command[BatchCleaned], service="cleaner", refuses=(BatchUnusable,)):
    """`collected` is the run whose parts are cleaned, `run` the run that it is done for."""

    batch_id: BatchId
    run: Run
    collected: Run
    parts: int = Field(ge=1)
    repair: bool


class DropBatch(Command[BatchDropped], service="cleaner"):
    batch_id: BatchId
    run: Run


class BatchAnalysed(Event, type="analyst.batch-analysed.v1"):
    batch_id: BatchId
    figures: Figures


class AnalyseBatch(Command[BatchAnalysed], service="analyst"):
    batch_id: BatchId
    run: Run


class BatchLoaded(Event, type="warehouse.batch-loaded.v1"):
    """`replaced`: how many rows of an earlier run had to go."""

    batch_id: BatchId
    rows: int
    replaced: int


class BatchSuperseded(Refusal, type="warehouse.batch-superseded.v1"):
    """A later run of this batch is in the warehouse already."""

    batch_id: BatchId
    newer: int


class LoadBatch(Command[BatchLoaded], service="warehouse", refuses=(BatchSuperseded,)):
    batch_id: BatchId
    run: Run
    figures: Figures


class FindLoad(Command[BatchLoaded], service="warehouse"):
    """Was it loaded? If not, it never will be."""

    batch_id: BatchId
    run: Run

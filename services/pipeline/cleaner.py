"""The cleaner: makes one table of the parts of a batch. Rows that are no measurements are set aside, each with its reason.

What was set aside is kept as it came, by batch and run, for whoever wants to look or to mend it. If more than a fifth is damaged, the
batch as a whole is refused: figures of what is left would mislead.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Column, Integer, MetaData, String, Table, Text, delete, insert

from saga import Participant, Refused, Work
from services.pipeline import files
from services.pipeline.clinics import COLUMNS
from services.stage.files import remove, write_whole
from topics.pipeline import BadRow, BatchCleaned, BatchDropped, BatchUnusable, CleanBatch, DropBatch

MOST_DAMAGED = 0.2  # of a batch's rows
DECIMAL_COMMA = re.compile(r"(\d+),(\d+)")

TABLES = MetaData()

quarantine = Table(
    "quarantine",
    TABLES,
    Column("batch_id", String(40), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("reason", String(200), nullable=False),
    Column("raw", Text, nullable=False),
    Column("command_id", String(1000), nullable=False),
)


class Measurement(BaseModel):
    """A row that can be worked with. The limits are those of people, not of this data."""

    model_config = ConfigDict(allow_inf_nan=False)

    patient: int = Field(ge=0)
    age: int = Field(ge=0, le=120)
    sex: Annotated[int, Field(ge=1, le=2)]
    bmi: float = Field(gt=8, lt=120)
    pressure: float = Field(gt=30, lt=250)
    tc: float = Field(gt=0)
    ldl: float = Field(gt=0)
    hdl: float = Field(gt=0)
    tch: float = Field(gt=0)
    ltg: float = Field(gt=0)
    glucose: float = Field(gt=0)
    progression: float = Field(gt=0)


SCHEMA = pa.schema(
    [(name, pa.int64() if field.annotation is int else pa.float64()) for name, field in Measurement.model_fields.items()]
)


class Row(NamedTuple):
    """A row as it came."""

    part: int
    line: int
    values: list[str]


class Cleaned(NamedTuple):
    rows: list[Measurement]
    bad: list[tuple[Row, str]]  # with the reason


cleaner = Participant("cleaner")


def sort_out(cmd: CleanBatch, work: Work) -> Cleaned:
    """Read the parts and sort their rows. Raises Refused if a part is missing, or too much is damaged."""
    try:
        rows = [row for part in range(cmd.parts) for row in _read(cmd.batch_id, cmd.collected, part)]
    except FileNotFoundError as error:
        if (
            work.begun
        ):  # an earlier try may have found it, and left a table that only the compensation takes away: that is no refusal
            raise
        missing = f"nobody has collected {error.filename} (any more)"
        raise Refused(BatchUnusable(batch_id=cmd.batch_id, reason=missing[-200:])) from error
    seen: set[int] = set()
    cleaned = Cleaned([], [])
    for row in rows:
        measured = _measured(row, cmd.repair)
        if isinstance(measured, str):
            cleaned.bad.append((row, measured[:200]))
        elif measured.patient in seen:
            cleaned.bad.append((row, f"patient {measured.patient} came before"))
        else:
            seen.add(measured.patient)
            cleaned.rows.append(measured)
    if len(cleaned.bad) > MOST_DAMAGED * len(rows):
        reason = f"{len(cleaned.bad)} of {len(rows)} rows are damaged; {MOST_DAMAGED:.0%} may be"
        raise Refused(BatchUnusable(batch_id=cmd.batch_id, reason=reason))
    return cleaned


@cleaner.handles(CleanBatch, calls=sort_out)
def clean(cmd: CleanBatch, work: Work, cleaned: Cleaned) -> BatchCleaned:
    table = pa.Table.from_pylist([row.model_dump() for row in cleaned.rows], schema=SCHEMA)
    write_whole(files.cleaned(cmd.batch_id, cmd.run), lambda draft: pq.write_table(table, draft))
    common = {"batch_id": cmd.batch_id, "run": cmd.run, "command_id": work.command_id}
    for row, reason in cleaned.bad:
        values = {"part": row.part, "line": row.line, "reason": reason, "raw": ",".join(row.values)}
        work.execute(insert(quarantine), {**common, **values})
    bad = tuple(BadRow(part=row.part, line=row.line, reason=reason) for row, reason in cleaned.bad)
    return BatchCleaned(batch_id=cmd.batch_id, kept=len(cleaned.rows), bad=bad)


@cleaner.handles(DropBatch)
def drop(cmd: DropBatch, work: Work) -> BatchDropped:
    remove(files.cleaned(cmd.batch_id, cmd.run))
    work.execute(delete(quarantine).where(quarantine.c.command_id == work.subject_id))
    return BatchDropped(batch_id=cmd.batch_id)


def _read(batch_id: str, run: int, part: int) -> Iterator[Row]:
    with files.staged(batch_id, run, part).open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        next(lines)
        for number, values in enumerate(lines, 1):
            yield Row(part, number, values)


def _measured(row: Row, repair: bool) -> Measurement | str:
    """The row as a measurement; or why it is none."""
    if len(row.values) != len(COLUMNS):
        return f"it has {len(row.values)} values, not {len(COLUMNS)}"
    values = [DECIMAL_COMMA.sub(r"\1.\2", value) for value in row.values] if repair else row.values
    try:
        return Measurement.model_validate(dict(zip(COLUMNS, values, strict=True)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"

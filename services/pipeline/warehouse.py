"""The warehouse: puts a batch into DuckDB and beside it, as Parquet, for readers without DuckDB; once, wherever it is killed.

Problem: DuckDB is another database than the one with the inbox, so that "loaded" and "answered" cannot be one transaction. The naive way,
load and then answer, loads twice when the process dies in between. Way taken: the command's id goes into DuckDB in the same transaction
as its rows. A command that comes again finds its id there, and only says once more what it did.

A load that was given up is asked after (`FindLoad`). If it is not there, the id is closed in the same way: should the load still be on its
way, it finds its id taken and does nothing. DuckDB lets one process at a time open the file to write, so a process that was thought dead
cannot write beside its successor: one of the two gets an error, and tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from saga import Nothing, Participant, Refused, Work
from services.pipeline import files
from services.pipeline.clinics import COLUMNS
from services.stage.files import remove, write_whole
from topics.pipeline import BatchLoaded, BatchSuperseded, FindLoad, LoadBatch

TABLES = f"""
    CREATE TABLE IF NOT EXISTS loads (
        command_id VARCHAR PRIMARY KEY, batch_id VARCHAR NOT NULL, run INTEGER NOT NULL,
        state VARCHAR NOT NULL, -- loaded; closed: it was not, and never will be
        rows INTEGER NOT NULL, replaced INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS measurements (
        batch_id VARCHAR NOT NULL, run INTEGER NOT NULL, {", ".join(f"{name} DOUBLE NOT NULL" for name in COLUMNS)});
    CREATE TABLE IF NOT EXISTS figures (
        batch_id VARCHAR PRIMARY KEY, run INTEGER NOT NULL, rows INTEGER NOT NULL,
        mean_bmi DOUBLE NOT NULL, mean_progression DOUBLE NOT NULL, slope DOUBLE NOT NULL, intercept DOUBLE NOT NULL);
"""


class Load(NamedTuple):
    """What a load did."""

    rows: int
    replaced: int


warehouse = Participant("warehouse")
_one_at_a_time = threading.Lock()


@contextmanager
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse in one transaction. It is open only so long: others want to read it. Raises duckdb.IOException if they do just now."""
    files.warehouse().parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time, duckdb.connect(files.warehouse()) as db:
        db.begin()
        try:
            db.execute(TABLES)
            yield db
        except BaseException:
            db.rollback()
            raise
        db.commit()


def load_once(cmd: LoadBatch, work: Work) -> Load:
    """Load a batch under the command's id. Raises Refused if a later run of it is there."""
    with opened() as db:
        known = _find(db, work.command_id)
        if known is None:
            known = _load(db, cmd, work.command_id)
    _remove_older(cmd.batch_id, cmd.run)  # only now: until the commit these were what counts
    return known


@warehouse.handles(LoadBatch, calls=load_once)
def loaded(cmd: LoadBatch, _work: Work, load: Load) -> BatchLoaded:
    return BatchLoaded(batch_id=cmd.batch_id, rows=load.rows, replaced=load.replaced)


def find_or_close(cmd: FindLoad, work: Work) -> Load:
    with opened() as db:
        known = db.execute("SELECT state, rows, replaced FROM loads WHERE command_id = ?", [work.subject_id]).fetchone()
        if known is None:
            db.execute("INSERT INTO loads VALUES (?, ?, ?, 'closed', 0, 0)", [work.subject_id, cmd.batch_id, cmd.run])
            remove(files.stored(cmd.batch_id, cmd.run))  # of a load that died before its commit
    if known is None or known[0] == "closed":
        raise Nothing
    _remove_older(cmd.batch_id, cmd.run)  # the load may have died after its commit
    return Load(known[1], known[2])


@warehouse.handles(FindLoad, calls=find_or_close)
def found(cmd: FindLoad, _work: Work, load: Load) -> BatchLoaded:
    return BatchLoaded(batch_id=cmd.batch_id, rows=load.rows, replaced=load.replaced)


def _remove_older(batch_id: str, run: int) -> None:
    for older in range(1, run):
        remove(files.stored(batch_id, older))


def _find(db: duckdb.DuckDBPyConnection, command_id: str) -> Load | None:
    known = db.execute("SELECT state, rows, replaced FROM loads WHERE command_id = ?", [command_id]).fetchone()
    if known is not None and known[0] == "closed":
        raise RuntimeError(f"{command_id} is closed: somebody asked after it when it had not been loaded")
    return Load(known[1], known[2]) if known is not None else None


def _load(db: duckdb.DuckDBPyConnection, cmd: LoadBatch, command_id: str) -> Load:
    """The rows, the figures, and the note that this command did it: all in the transaction that is open."""
    (newer,) = db.execute("SELECT max(run) FROM loads WHERE batch_id = ? AND state = 'loaded'", [cmd.batch_id]).fetchall()[0]
    if newer is not None and newer > cmd.run:
        raise Refused(BatchSuperseded(batch_id=cmd.batch_id, newer=newer))
    table = pq.read_table(files.cleaned(cmd.batch_id, cmd.run))
    for name, value in (("run", cmd.run), ("batch_id", cmd.batch_id)):
        table = table.add_column(0, name, pa.repeat(value, table.num_rows))
    path = files.stored(cmd.batch_id, cmd.run)
    write_whole(path, lambda draft: pq.write_table(table, draft))
    replaced = len(db.execute("DELETE FROM measurements WHERE batch_id = ? RETURNING run", [cmd.batch_id]).fetchall())
    db.execute("INSERT INTO measurements BY NAME SELECT * FROM read_parquet(?)", [str(path)])
    figures = cmd.figures.model_dump()
    db.execute("INSERT OR REPLACE INTO figures VALUES (?, ?, ?, ?, ?, ?, ?)", [cmd.batch_id, cmd.run, *figures.values()])
    db.execute("INSERT INTO loads VALUES (?, ?, ?, 'loaded', ?, ?)", [command_id, cmd.batch_id, cmd.run, table.num_rows, replaced])
    return Load(table.num_rows, replaced)

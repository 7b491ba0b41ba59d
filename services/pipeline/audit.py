"""The audit of the pipeline: what was delivered against what is in the warehouse, from the databases, the files and the journal alone.

What must be true is computed here once more, from scikit-learn's data and the list of what was damaged, by other means than the services
use: the figures, for one, by DuckDB's own functions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from services.pipeline import files
from services.pipeline.clinics import FLAKY_TIMES, Delivery
from services.pipeline.saga import Batch
from services.stage.books import Ask, ask
from services.stage.findings import Finding, counted

COMPLETED, COMPENSATED = "completed", "compensated"
Place = tuple[str, int, int, int]  # batch, run, part, line


@dataclass
class Books:
    """All that was written, as it is now."""

    batches: dict[tuple[str, int], tuple[str, Batch]]  # outcome and data, by batch and run
    loads: list[tuple[Any, ...]]  # command, batch, run, state, rows, replaced
    measurements: list[tuple[Any, ...]]  # batch, run, then the columns
    figures: list[tuple[Any, ...]]  # as stored, then as DuckDB computes them
    damage: dict[Place, tuple[int, str]]  # with run 0: patient and kind
    quarantine: list[Place]
    reports: dict[tuple[str, int], dict[str, Any]]
    requests: dict[tuple[str, int], int]
    parquet: dict[tuple[str, int], list[int]]  # the patients in each file
    left: list[Path]  # staged and cleaned files


def read_books(runs: Iterable[tuple[str, Batch]], ask: Ask = ask) -> Books:
    """Read all books. `runs`: outcome and data of each instance of the pipeline, from the journal."""
    with duckdb.connect(files.warehouse(), read_only=True) as db:
        loads, measurements = (db.execute(f"SELECT * FROM {name}").fetchall() for name in ("loads", "measurements"))
        figures = db.execute(_FIGURES).fetchall()
    damage = ask("source", "SELECT batch_id, part, line, patient, kind FROM damage")
    return Books(
        batches={(batch.batch_id, batch.run): (outcome, batch) for outcome, batch in runs},
        loads=loads,
        measurements=measurements,
        figures=figures,
        damage={(batch, 0, part, line): (patient, kind) for batch, part, line, patient, kind in damage},
        quarantine=ask("cleaner", "SELECT batch_id, run, part, line FROM quarantine"),
        reports={(b, r): json.loads(told) for b, r, told in ask("source", "SELECT batch_id, run, report FROM reports")},
        requests={(b, p): count for b, p, count in ask("source", "SELECT batch_id, part, count FROM requests")},
        parquet={_of(path): pq.read_table(path).column("patient").to_pylist() for path in _files("stored")},
        left=[*_files("staged"), *_files("cleaned")],
    )


_FIGURES = """
    SELECT f.batch_id, f.run, [f.rows, f.mean_bmi, f.mean_progression, f.slope, f.intercept],
           [count(*), avg(bmi), avg(progression), regr_slope(progression, bmi), regr_intercept(progression, bmi)]
    FROM figures f JOIN measurements m USING (batch_id, run) GROUP BY ALL
"""


def audit(books: Books, made: list[Delivery], truth: tuple[tuple[str, ...], ...]) -> list[Finding]:
    """Every check. `made`: what was delivered; `truth`: the rows of the data set, undamaged."""
    return [
        _outcomes(books, made),
        _loaded(books, made, truth),
        _once(books),
        _quarantined(books),
        _reported(books),
        _computed(books),
        _stored(books),
        _nothing_left(books),
        _patience(books, made),
    ]


def _outcomes(books: Books, made: list[Delivery]) -> Finding:
    fates = {delivery.batch_id: delivery.fate for delivery in made}
    off = [
        f"{batch_id} was delivered, but the journal does not know it" for batch_id in fates if (batch_id, 1) not in books.batches
    ]
    for (batch_id, run), (outcome, _) in books.batches.items():
        due = COMPLETED if fates.get(batch_id) == "loaded" else COMPENSATED
        if outcome != due:
            off.append(f"{batch_id}, {fates.get(batch_id, 'never delivered')}, run {run}: is {outcome}, should be {due}")
    count = Counter(outcome for outcome, _ in books.batches.values())
    if not count[COMPLETED] or not count[COMPENSATED]:
        off.append("none was completed, or none compensated: this proves nothing")
    numbers = f"{count[COMPLETED]} completed, {count[COMPENSATED]} compensated"
    return Finding(
        f"{counted(len(made), 'batch', 'batches')} in {counted(len(books.batches), 'run')}: {numbers}, as their damage wants it",
        off,
    )


def _loaded(books: Books, made: list[Delivery], truth: tuple[tuple[str, ...], ...]) -> Finding:
    """Each row that was delivered whole is in the warehouse, once, as it is in the data set; and nothing else."""
    due: Counter[tuple[Any, ...]] = Counter()
    for batch_id, run in _last_runs(books):
        delivery = next(d for d in made if d.batch_id == batch_id)
        first = min(int(line.split(",")[0]) for lines in delivery.parts for line in lines)
        lost = {patient for (batch, _, part, line), (patient, _) in books.damage.items() if (batch, run, part, line) in _bad(books)}
        there = range(first, first + sum(map(len, delivery.parts)))
        due.update((batch_id, run, *map(float, truth[patient])) for patient in there if patient not in lost)
    found = Counter(books.measurements)
    off = [f"patient {row[2]:g} of {row[0]}, run {row[1]}, is missing" for row in (due - found)]
    off += [f"patient {row[2]:g} of {row[0]}, run {row[1]}, is there once too often, or changed" for row in (found - due)]
    if not due:
        off.append("nothing was to be loaded: this proves nothing")
    return Finding(f"{found.total()} rows in the warehouse, each as scikit-learn has it, {due.total()} should be", off)


def _once(books: Books) -> Finding:
    """A load for each run that was completed, and what it says of itself adds up."""
    loaded = [row for row in books.loads if row[3] == "loaded"]
    count = Counter((batch_id, run) for _, batch_id, run, *_ in loaded)
    due = {key for key, (outcome, _) in books.batches.items() if outcome == COMPLETED}
    off = [
        f"{batch_id}, run {run}, was loaded {n} times"
        for (batch_id, run), n in count.items()
        if n > 1 or (batch_id, run) not in due
    ]
    off += [f"{batch_id}, run {run}, was completed but not loaded" for batch_id, run in sorted(due - count.keys())]
    rows, replaced = sum(row[4] for row in loaded), sum(row[5] for row in loaded)
    if rows - replaced != len(books.measurements):
        off.append(f"{rows} loaded − {replaced} replaced is not {len(books.measurements)}")
    again = sum(run > 1 for _, _, run, *_ in loaded)
    said = f"{counted(len(loaded), 'load')} ({again} of them of a stage that was run again)"
    return Finding(f"{said}: {rows} rows loaded − {replaced} replaced, loaded twice: {sum(n > 1 for n in count.values())}", off)


def _quarantined(books: Books) -> Finding:
    """Set aside was what had been damaged, no more and no less; decimal commas only where nobody mended them."""
    due = _bad(books)
    found = set(books.quarantine)
    off = [
        f"line {line} of part {part} of {b}, run {r}, is damaged but was not set aside" for b, r, part, line in sorted(due - found)
    ]
    off += [f"line {line} of part {part} of {b}, run {r}, was set aside without reason" for b, r, part, line in sorted(found - due)]
    kinds = Counter(books.damage[batch, 0, part, line][1] for batch, _, part, line in due)
    numbers = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return Finding(f"{counted(len(found), 'row')} in quarantine ({numbers}), as they were damaged", off)


def _reported(books: Books) -> Finding:
    """The clinics were told of each run that was loaded, with the rows that were set aside."""
    off = []
    for batch_id, run in _completed(books):
        told = books.reports.get((batch_id, run), {"loaded": -1, "bad": []})
        bad = {(batch_id, run, row["part"], row["line"]) for row in told["bad"]}
        rows = next((row[4] for row in books.loads if row[1:4] == (batch_id, run, "loaded")), None)
        if told["loaded"] != rows or bad != {place for place in books.quarantine if place[:2] == (batch_id, run)}:
            off.append(f"the report of {batch_id}, run {run}, does not say what is in the warehouse and in quarantine: {told}")
    off += [f"{b}, run {r}, was reported, but not completed" for b, r in books.reports if (b, r) not in _completed(books)]
    return Finding(f"{counted(len(books.reports), 'report')} to the clinics, one for each run that was loaded", off)


def _computed(books: Books) -> Finding:
    off = [
        f"{batch_id}: figures {stored}, but DuckDB computes {computed}"
        for batch_id, _, stored, computed in books.figures
        if any(abs(a - b) > 1e-6 * max(1.0, abs(b)) for a, b in zip(stored, computed, strict=True))
    ]
    if sorted((row[0], row[1]) for row in books.figures) != sorted(_last_runs(books)):
        off.append("there are not figures for exactly the batches that are loaded")
    return Finding(f"figures of {counted(len(books.figures), 'batch', 'batches')}, computed again by DuckDB", off)


def _stored(books: Books) -> Finding:
    there = {key: sorted(int(row[2]) for row in books.measurements if row[:2] == key) for key in _last_runs(books)}
    off = [
        f"{b}, run {r}: Parquet and DuckDB do not hold the same patients"
        for (b, r), p in there.items()
        if sorted(books.parquet.get((b, r), [])) != p
    ]
    off += [f"{b}, run {r}: a Parquet file of what is not in the warehouse" for b, r in books.parquet if (b, r) not in there]
    return Finding(f"{counted(len(books.parquet), 'Parquet file')}, the same patients as in DuckDB", off)


def _nothing_left(books: Books) -> Finding:
    """Of a run that was compensated there is no file, no row and no report."""
    undone = {key for key, (outcome, _) in books.batches.items() if outcome == COMPENSATED}
    off = [f"{path} is left of a batch that was compensated" for path in books.left if _of_any(path) in undone]
    off += [f"{b}, run {r}: quarantine is left" for b, r in {place[:2] for place in books.quarantine} & undone]
    off += [
        f"{row[1]}, run {row[2]}: rows are in the warehouse" for row in books.loads if row[3] == "loaded" and row[1:3] in undone
    ]
    off += [f"{path} is a draft that nobody removed" for path in books.left if path.suffix == ".draft"]
    return Finding(f"{counted(len(undone), 'batch', 'batches')} compensated: nothing is left of them", off)


def _patience(books: Books, made: list[Delivery]) -> Finding:
    flaky = [(d.batch_id, d.flaky) for d in made if d.flaky >= 0]
    off = [
        f"part {part} of {batch_id} was never down"
        for batch_id, part in flaky
        if books.requests.get((batch_id, part), 0) <= FLAKY_TIMES
    ]
    if not flaky:
        off.append("no source was down: this proves nothing")
    return Finding(f"{len(flaky)} source was down for {FLAKY_TIMES} requests, and its batch was loaded all the same", off)


def _completed(books: Books) -> list[tuple[str, int]]:
    return [key for key, (outcome, _) in books.batches.items() if outcome == COMPLETED]


def _last_runs(books: Books) -> list[tuple[str, int]]:
    """Of each batch the last run that was completed: what the warehouse should hold."""
    last: dict[str, int] = {}
    for batch_id, run in _completed(books):
        last[batch_id] = max(run, last.get(batch_id, 0))
    return sorted(last.items())


def _bad(books: Books) -> set[Place]:
    """What must be in quarantine."""
    return {
        (batch_id, run, part, line)
        for batch_id, run in _completed(books)
        for (batch, _, part, line), (_, kind) in books.damage.items()
        if batch == batch_id and not (kind == "comma" and books.batches[batch_id, run][1].repair)
    }


def _files(stage: str) -> list[Path]:
    return sorted(path for path in (files.folder() / stage).rglob("*") if path.is_file())


def _of(path: Path) -> tuple[str, int]:
    """Batch and run of a cleaned or stored file."""
    return path.parent.name, int(path.name.partition(".")[0])


def _of_any(path: Path) -> tuple[str, int]:
    """The same, also of a staged one, which has a folder for each run."""
    return (path.parent.parent.name, int(path.parent.name)) if path.name.endswith(".csv") else _of(path)

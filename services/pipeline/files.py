"""Where the stages leave their files, and how a file is written: whole and for good, or not at all.

A file's name follows from the batch and the run alone. So a command that is done again writes the same file again, and its compensation
knows what to remove, whatever became of the process in between.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from services.stage.example import data_folder


def folder() -> Path:
    return data_folder() / "pipeline"


def delivered(batch_id: str, part: int) -> Path:
    """Where the clinics put a part that they deliver as a file."""
    return folder() / "delivered" / f"{batch_id}-{part}.csv.gz"


def staged(batch_id: str, run: int, part: int) -> Path:
    """A part as it was collected: CSV with a heading."""
    return folder() / "staged" / batch_id / str(run) / f"{part}.csv"


def cleaned(batch_id: str, run: int) -> Path:
    return folder() / "cleaned" / batch_id / f"{run}.parquet"


def stored(batch_id: str, run: int) -> Path:
    """The rows of a batch in the warehouse, as its readers without DuckDB find them."""
    return folder() / "stored" / batch_id / f"{run}.parquet"


def warehouse() -> Path:
    return folder() / "warehouse.duckdb"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write(draft)` write a file beside it, then put it in its place: after a power cut it is there as a whole, or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    write(draft)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    above = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def remove(path: Path) -> bool:
    """Remove a file; whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True

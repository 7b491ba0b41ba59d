"""Where the stages leave their files.

A file's name follows from the batch and the run alone. So a command that is done again writes the same file again, and its compensation
knows what to remove, whatever became of the process in between.
"""

from __future__ import annotations

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

"""What an audit reads: the databases of services, from outside and without changing them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from services.stage.example import data_folder

Ask = Callable[[str, str], list[Any]]


def ask(service: str, query: str) -> list[Any]:
    """The rows that a service's own database has for a query."""
    with closing(sqlite3.connect(f"file:{data_folder() / service}.db?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()

"""Where the platform's programs are: each writes its port into a file while it runs, and the host which version is current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from services.stage.example import data_folder


class Place(NamedTuple):
    """A program's own word on who it is."""

    pid: int
    port: int


def run_folder() -> Path:
    return data_folder() / "run"


def current(folder: Path) -> str:
    """The version that whoever asks is to get; "" if there is none."""
    file = folder / "current"
    return file.read_text() if file.exists() else ""


def place(folder: Path, version: str, name: str) -> Place | None:
    """Where a program is, or was; None if it never wrote it."""
    try:
        found = json.loads((folder / version / f"{name}.json").read_text())
        return Place(found["pid"], found["port"])
    except (OSError, ValueError):
        return None

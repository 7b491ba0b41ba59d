"""Demos as programs: in short, on the file log, with one of their processes killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from services.stage.crew import ROOT

PATIENCE = 250.0  # seconds; a demo in short takes twenty on a machine that has nothing else to do


def assert_demo_survives(name: str, folder: Path, *, kill: str, seed: int) -> None:
    """Run `services.<name>.demo`; it must kill that process, find all books in order, and leave nothing behind."""
    line = [
        sys.executable,
        "-m",
        f"services.{name}.demo",
        "--short",
        "--seed",
        str(seed),
        "--kill",
        kill,
        "--folder",
        str(folder / "demo"),
    ]
    environment = {**os.environ, "SAGA_LOG": f"file:{folder / 'log'}"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kill} is killed with -9" in done.stdout
    assert "all books agree" in done.stdout
    assert not (folder / "demo").exists()

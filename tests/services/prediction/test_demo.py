"""The demo as a program, in short, on the file log, with one of its processes killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.stage.crew import ROOT


@pytest.mark.slow
def test_the_demo_ends_well_though_one_of_its_processes_is_killed_and_leaves_nothing(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "services.prediction.demo", "--short", "--seed", "7", "--kill", "predictor"]
    environment = {**os.environ, "SAGA_LOG": f"file:{tmp_path / 'log'}"}
    done = subprocess.run(
        [*line, "--folder", str(tmp_path / "demo")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "predictor is killed with -9" in done.stdout
    assert "all books agree" in done.stdout
    assert not (tmp_path / "demo").exists()

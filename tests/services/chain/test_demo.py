"""The demo as a program, in short, on the file log, with loyalty killed; and its drawings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.stage.crew import ROOT


@pytest.mark.slow
def test_the_demo_ends_well_though_loyalty_is_killed_and_leaves_nothing(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "services.chain.demo", "--short", "--seed", "7", "--kill", "loyalty", "--folder"]
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("SAGA_", "EXAMPLE_", "KEEP"))}
    done = subprocess.run(
        [*line, str(tmp_path / "demo")],
        cwd=ROOT,
        env={**plain, "SAGA_LOG": f"file:{tmp_path / 'log'}"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loyalty is killed with -9" in done.stdout
    assert "all books agree" in done.stdout
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("name", "command"), [("chain.svg", ["graph", "refund"]), ("chain-map.svg", ["map"])], ids=["refund", "map"]
)
def test_the_drawings_in_the_docs_are_what_the_commands_print(name: str, command: list[str]) -> None:
    line = [sys.executable, "-m", "saga.cli", *command, "--app", "services.chain:app", "-f", "svg"]
    printed = subprocess.run(line, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    kept = (ROOT / "docs/images" / name).read_text(encoding="utf-8")
    assert printed == kept, f"run: saga {' '.join(command)} --app services.chain:app --out docs/images/{name}"

"""The demo as a program, in short, on the file log, with the host killed; its drawings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.platform.audit import running
from services.stage.crew import ROOT


@pytest.mark.slow
def test_the_demo_ends_well_though_the_host_of_all_is_killed_and_leaves_no_process(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "services.platform.demo", "--short", "--seed", "7", "--kill", "host"]
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("SAGA_", "EXAMPLE_", "KEEP"))}
    done = subprocess.run(
        [*line, "--folder", str(tmp_path / "demo")],
        cwd=ROOT,
        env={**plain, "SAGA_LOG": f"file:{tmp_path / 'log'}"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "host is killed with -9" in done.stdout
    assert "the rollout of v2 is compensated" in done.stdout
    assert "all books agree" in done.stdout
    assert running(tmp_path / "demo/data") == []
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("name", ["rollout", "restart", "scale"])
def test_the_drawings_in_the_docs_are_what_the_command_prints(name: str) -> None:
    line = [sys.executable, "-m", "saga.cli", "graph", name, "--app", "services.platform:app"]
    printed = subprocess.run([*line, "-f", "svg"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    kept = (ROOT / f"docs/images/platform-{name}.svg").read_text(encoding="utf-8")
    assert printed == kept, f"run: saga graph {name} --app services.platform:app --out docs/images/platform-{name}.svg"

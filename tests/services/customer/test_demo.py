"""The demo as a program, in short: on a real Kafka with a reactor killed; and left out, in a line, where there is none. Its drawing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.stage.crew import ROOT
from tests.conftest import SessionBroker

PATIENCE = 250.0  # seconds


def demo(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "services.customer.demo", "--short", "--seed", "7", "--folder", str(folder / "demo"), *more]
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("SAGA_", "EXAMPLE_", "KEEP"))}
    return subprocess.run(
        line, cwd=ROOT, env={**plain, **environment}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.slow
@pytest.mark.kafka
def test_the_demo_ends_well_though_the_crm_is_killed_and_leaves_nothing(broker: SessionBroker, tmp_path: Path) -> None:
    done = demo(tmp_path, "--kill", "crm", SAGA_BOOTSTRAP=broker.bootstrap)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "crm is killed with -9" in done.stdout
    assert "all books agree" in done.stdout
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_on_a_file_log_it_is_left_out_and_says_why(tmp_path: Path) -> None:
    done = demo(tmp_path, SAGA_LOG=f"file:{tmp_path / 'log'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "customer is left out on a file log: the CRM and insights are Faust reactors" in done.stdout


def test_the_drawing_in_the_docs_is_what_the_command_prints() -> None:
    line = [sys.executable, "-m", "saga.cli", "graph", "customer-change", "--app", "services.customer:app", "-f", "svg"]
    printed = subprocess.run(line, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    kept = (ROOT / "docs/images/customer.svg").read_text(encoding="utf-8")
    assert printed == kept, "run: saga graph customer-change --app services.customer:app --out docs/images/customer.svg"

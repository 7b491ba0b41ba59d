"""The demos as programs, in short, each with one of its processes killed; and all of them as one system, on a real Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.platform.audit import running
from services.stage.crew import ROOT
from tests.conftest import SessionBroker

PATIENCE = (
    400.0  # seconds; a demo in short takes twenty to fifty, and all of them together a hundred, on a machine that is not busy
)

pytestmark = pytest.mark.slow


def demo(name: str, folder: Path, kill: str, **environment: str) -> str:
    """Run it to its end: what it said. It must kill that process, find all books in order, and leave nothing behind."""
    where = folder / "demo"
    line = [sys.executable, "-m", f"services.{name}.demo", "--short", "--seed", "7", "--kill", kill, "--folder", str(where)]
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("SAGA_", "EXAMPLE_", "KEEP"))}
    done = subprocess.run(
        line, cwd=ROOT, env={**plain, **environment}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert kill == "none" or f"{kill} is killed with -9" in done.stdout
    assert not where.exists()
    return done.stdout


@pytest.mark.parametrize(
    ("name", "kill"),
    [("chain", "loyalty"), ("pipeline", "warehouse"), ("prediction", "predictor"), ("platform", "host"), ("nightly", "office")],
)
def test_on_a_file_log(name: str, kill: str, tmp_path: Path) -> None:
    assert "all books agree" in demo(name, tmp_path, kill, SAGA_LOG=f"file:{tmp_path / 'log'}")
    assert running(tmp_path / "demo/data") == []  # what platform's host started too


def test_what_needs_kafka_is_left_out_on_a_file_log_and_says_why(tmp_path: Path) -> None:
    said = demo("customer", tmp_path, "none", SAGA_LOG=f"file:{tmp_path / 'log'}")
    assert "customer is left out on a file log: the CRM and insights are Faust reactors" in said


@pytest.mark.kafka
@pytest.mark.parametrize(("name", "kill"), [("customer", "crm"), ("all", "inventory")])
def test_on_a_real_kafka(name: str, kill: str, broker: SessionBroker, tmp_path: Path) -> None:
    assert "all books agree" in demo(name, tmp_path, kill, SAGA_BOOTSTRAP=broker.bootstrap)
    assert running(tmp_path / "demo/data") == []

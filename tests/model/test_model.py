"""The protocol's model is exhausted within small bounds without a violation, and finds each mistake that is planted in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "journal_model.py"


def explore(inputs: str, claims: int, *flags: str) -> str:
    command = [sys.executable, str(MODEL), "--inputs", inputs, "--claims", str(claims), "--secs", "110", "--flags", ",".join(flags)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("inputs", ["ab", "aba", "abb"])
def test_no_order_of_events_breaks_the_protocol(inputs: str) -> None:
    said = explore(inputs, 2, "serial_publish")
    assert said.rstrip().endswith("PASS (exhausted)"), said
    assert int(said.split(" states ")[0].split()[-1]) > 3000, f"it explored next to nothing: {said}"


@pytest.mark.slow
def test_no_order_of_events_breaks_the_protocol_with_three_claims() -> None:
    said = explore("ab", 3, "serial_publish")
    assert said.rstrip().endswith("PASS (exhausted)"), said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "inputs", "serial"),
    [
        ("no_republish", "ab", True),
        ("publish_first", "ab", True),
        ("skip_offset_check", "ab", True),
        ("rf_same_batch", "ab", True),
        ("count_void", "ab", True),
        ("republish_after_new", "aba", False),
        ("early_watermark", "aba", False),
        ("rf_ignores_pub", "aba", False),
        ("no_skip", "abb", False),
    ],
)
def test_the_model_finds_a_planted_mistake(mistake: str, inputs: str, serial: bool) -> None:
    said = explore(inputs, 2, *(["serial_publish"] if serial else []), mistake)
    assert "VIOLATION" in said, f"{mistake} was not found: {said}"

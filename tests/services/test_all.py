"""All examples as one system: their names do not meet, and none is missing. `make demo-all` runs them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from services.all import PARTS as APPS
from services.all import app
from services.all.demo import PARTS


def test_no_two_processes_have_one_name() -> None:
    names = Counter(name for part in PARTS for name in part.processes)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_example_is_in_it() -> None:
    demos = {file.parent.name for file in Path("services").glob("*/demo.py")} - {"all"}
    assert {part.name for part in PARTS} == demos, "an example is missing from services.all"
    assert len(APPS) == len(PARTS)
    assert {saga.name for part in APPS for saga in part.sagas} == {saga.name for saga in app.sagas}

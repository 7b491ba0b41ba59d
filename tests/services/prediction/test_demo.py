"""The demo as a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.programs import assert_demo_survives


@pytest.mark.slow
def test_the_demo_ends_well_though_one_of_its_processes_is_killed_and_leaves_nothing(tmp_path: Path) -> None:
    assert_demo_survives("prediction", tmp_path, kill="predictor", seed=7)

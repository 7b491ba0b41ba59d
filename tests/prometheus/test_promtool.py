"""What promtool says of our configuration, of the alerts, and of the pages that our processes serve."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from saga.metrics import Metrics, ParticipantMetrics
from saga.orchestrate import label_names
from saga.runtime.census import begin_series
from services import app

FOLDER = Path(__file__).parents[2] / "infra" / "prometheus"
pytestmark = pytest.mark.prometheus


def check(*command: str, given: bytes = b"") -> str:
    done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def test_the_configuration_and_the_rules_are_valid(promtool: str) -> None:
    assert "is valid prometheus config" in check(promtool, "check", "config", str(FOLDER / "prometheus.yml"))


def test_each_alert_fires_and_each_stays_silent(promtool: str) -> None:
    assert "SUCCESS" in check(promtool, "test", "rules", str(FOLDER / "alerts_test.yml"))


def test_an_alert_that_does_not_fire_is_noticed(promtool: str, tmp_path: Path) -> None:
    """Our tests of the alerts can fail: with another threshold they do."""
    alerts = (FOLDER / "alerts.yml").read_text()
    (tmp_path / "alerts.yml").write_text(alerts.replace("saga_input_lag_seconds) > 60", "saga_input_lag_seconds) > 6000"))
    (tmp_path / "alerts_test.yml").write_text((FOLDER / "alerts_test.yml").read_text())
    with pytest.raises(AssertionError, match="InputLag"):
        check(promtool, "test", "rules", str(tmp_path / "alerts_test.yml"))


def test_what_is_served_follows_the_conventions(promtool: str) -> None:
    metrics = Metrics(label_names(app))
    begin_series(metrics, app.book)
    check(promtool, "check", "metrics", given=metrics.text())
    participants = ParticipantMetrics({"payment", "payment.take_payment.v1"})
    participants.on_command("payment", "payment.take_payment.v1", "done", 0.01)
    check(promtool, "check", "metrics", given=participants.text())

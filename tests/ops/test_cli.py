"""The command line before any log is read: what it says of its settings, and what it does not make."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from saga.cli import cli
from saga.errors import Misconfigured

LOOKING = [
    ("list",),
    ("show", "o-1"),
    ("why", "o-1"),
    ("replay",),
    ("retry", "o-1", "--why", "try", "--who", "anna"),
    ("topics", "check", "--app", "tests.ops.shop:app"),
]


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
@pytest.mark.parametrize("prefix", ["", "mine-"])
def test_who_only_looks_makes_no_file_log(
    command: tuple[str, ...], prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGA_LOG", f"file:{tmp_path}/log")
    monkeypatch.setenv("SAGA_PREFIX", prefix)
    done = CliRunner().invoke(cli, command)
    assert isinstance(done.exception, Misconfigured), f"{command} looked at a log that is not there: {done.output}"
    assert str(done.exception).startswith(
        f"there is no log in {tmp_path}/log{'/' if prefix else ''}{prefix}: `saga topics apply` makes it"
    )
    assert list(tmp_path.iterdir()) == [], "something was made by looking"


def test_who_only_looks_finds_the_file_log_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_LOG", f"file:{tmp_path}/log")
    assert CliRunner().invoke(cli, ["topics", "apply", "--app", "tests.ops.shop:app"]).exit_code == 0
    assert CliRunner().invoke(cli, ["topics", "check", "--app", "tests.ops.shop:app"]).exit_code == 0
    listed = CliRunner().invoke(cli, ["list", "-o", "json"])
    assert (listed.exit_code, listed.stdout) == (0, "[]\n")

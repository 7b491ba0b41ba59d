"""The command line before any log is read: what it says of its settings, and what it does not make."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saga.cli import cli
from saga.config import Config
from saga.errors import Misconfigured

ROOT = Path(__file__).parents[2]
LOOKING = [
    ("list",),
    ("show", "o-1"),
    ("why", "o-1"),
    ("replay",),
    ("questions", "--app", "tests.ops.office:app"),
    *((action, "o-1", "--why", "try", "--who", "anna") for action in ("retry", "resume", "cancel", "compensate")),
    ("skip", "o-1", "pay", "--why", "try", "--who", "anna"),
    ("edit", "o-1", "--set", "total=1", "--why", "try", "--who", "anna"),
    ("signal", "o-1", "carrier.picked.v1", "{}", "--why", "try", "--who", "anna"),
    ("answer", "o-1", "approval", "{}", "--role", "finance", "--why", "try", "--who", "anna"),
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


def test_a_variable_that_is_no_setting_is_told_with_the_name_that_was_meant() -> None:
    given = {"SAGA_BOOTSTRP": "kafka:9092", "SAGA_COLOUR": "red", "SAGA_TEST_BOOTSTRAP": "x", "SAGA_DEV": "1", "SAGAS": "7"}
    assert Config.read(given).remarks == (
        "SAGA_BOOTSTRP is no setting and has no effect; is SAGA_BOOTSTRAP meant?",
        "SAGA_COLOUR is no setting and has no effect",
    )
    assert Config.read({"SAGA_UNKNOWN": "x"}).remarks == ("SAGA_UNKNOWN is no setting and has no effect",)


def test_a_folder_in_kafkas_place_is_told_where_both_are_named() -> None:
    assert Config.read({"SAGA_LOG": "file:.saga", "SAGA_BOOTSTRAP": "kafka:9092"}).remarks == (
        "SAGA_LOG=file:.saga counts, and SAGA_BOOTSTRAP=kafka:9092 has no effect; for Kafka: unset SAGA_LOG",
    )
    assert Config.read({"SAGA_LOG": "", "SAGA_BOOTSTRAP": "kafka:9092"}).remarks == ()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SAGA_SESSION_SECONDS", "0", "SAGA_SESSION_SECONDS=0.0 is not within 0.5 and 1800 s"),
        ("SAGA_SESSION_SECONDS", "nan", "SAGA_SESSION_SECONDS=nan is not within 0.5 and 1800 s"),
        ("SAGA_TIMEOUT_SECONDS", "-1", "SAGA_TIMEOUT_SECONDS=-1.0 is not within 0.1 and 3600 s"),
        ("SAGA_TIMEOUT_SECONDS", "inf", "SAGA_TIMEOUT_SECONDS=inf is not within 0.1 and 3600 s"),
        ("SAGA_SNAPSHOT_BYTES", "-1", "SAGA_SNAPSHOT_BYTES=-1 is not within 1 and 1099511627776 bytes"),
        ("SAGA_SNAPSHOT_SECONDS", "-1", "SAGA_SNAPSHOT_SECONDS=-1.0 is not within 1 and 31622400 s"),
        ("SAGA_HISTORY_DAYS", "-1", "SAGA_HISTORY_DAYS=-1.0 is not within 0 and 36525 days"),
        ("SAGA_GROUP", " ", "SAGA_GROUP=' ' is no name"),
        ("SAGA_PREFIX", "a b", "SAGA_PREFIX='a b': a topic's name has letters, digits, '.', '_' and '-' only"),
    ],
)
def test_a_value_with_which_nothing_would_work_is_refused(name: str, value: str, told: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Config.read({name: value})
    assert str(caught.value) == told


def test_a_typo_is_a_warning_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_LOG", f"file:{tmp_path}/log")
    monkeypatch.setenv("SAGA_PREFFIX", "mine-")
    done = subprocess.run(
        [sys.executable, "-m", "saga.cli", "topics", "apply", "--app", "tests.ops.shop:app", "-o", "json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "saga: SAGA_PREFFIX is no setting and has no effect; is SAGA_PREFIX meant?\n" in done.stderr
    assert "PREFFIX" not in done.stdout


@pytest.mark.parametrize(
    "program", [("-m", "saga.cli", "run", "--app", "tests.ops.shop:app"), ("-m", "services.checkout", "payment")]
)
def test_a_process_logs_a_typo_as_a_warning(program: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both end at once: a run without topics, and a service whose address is none."""
    monkeypatch.setenv("SAGA_LOG", f"file:{tmp_path}/log")
    monkeypatch.setenv("SAGA_HTPT", "127.0.0.1:0")
    monkeypatch.setenv("SAGA_PARTICIPANT_HTTP", "nowhere")
    monkeypatch.setenv("CHECKOUT_DATA", str(tmp_path))
    done = subprocess.run([sys.executable, *program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0
    first = json.loads(done.stderr.splitlines()[0])
    assert (first["level"], first["message"]) == ("warning", "SAGA_HTPT is no setting and has no effect; is SAGA_HTTP meant?")


def test_it_says_which_version_it_is() -> None:
    done = CliRunner().invoke(cli, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"saga-kafka {version('saga-kafka')}\n")


def test_a_log_that_is_not_there_is_not_made_by_running_and_is_named_in_full(tmp_path: Path) -> None:
    environment = os.environ | {"SAGA_LOG": "file:typo", "SAGA_HTTP": "127.0.0.1:0", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "saga.cli", "run", "--app", "tests.ops.shop:app"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2
    assert f"saga: there is no log in {tmp_path}/typo: `saga topics apply` makes it" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_taken_is_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"SAGA_LOG": f"file:{tmp_path}/log"}
    assert CliRunner(env=environment).invoke(cli, ["topics", "apply", "--app", "tests.ops.shop:app"]).exit_code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = [sys.executable, "-m", "saga.cli", "run", "--app", "tests.ops.shop:app"]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment | {"SAGA_HTTP": address}, check=False)
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert told.startswith(f"saga: cannot listen on {address}: ")
    assert told.endswith("; SAGA_HTTP names another address, port 0 takes any")

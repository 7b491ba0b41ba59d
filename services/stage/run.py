"""A demo from beginning to end, with nothing left behind unless it was asked for, or failed and has logs to look at."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from infra.broker import BrokerUnavailable
from saga import SagaError
from services.stage.crew import Crew, DemoFailed, stop_kept
from services.stage.log import shown


def play(folder: Path, keep: bool, act: Callable[[Crew], int], *, hidden: tuple[str, ...] = ()) -> int:
    """Give `act` an empty folder and a crew; its exit code, or 1 if it failed. Variables that begin with `hidden` are not passed on."""
    if stop_kept(folder):
        print("stopped the demo that was left up here", flush=True)
    folder.mkdir()
    environment = {name: text for name, text in os.environ.items() if not name.startswith(hidden or ("\0",))}
    crew, done, code = Crew(folder, environment, keep), False, 1
    try:
        code = act(crew)
        done = True
    except* (DemoFailed, BrokerUnavailable, SagaError) as group:
        for error in group.exceptions:
            print(f"the demo failed: {_innermost(error)}", file=sys.stderr, flush=True)
    finally:
        interrupted = sys.exc_info()[0] is not None
        try:
            if not (done and keep):
                crew.stop()
        finally:
            if interrupted or (code == 0 and not keep):
                shutil.rmtree(folder, ignore_errors=True)
    if code != 0:
        print(f"the logs and databases are in {shown(folder)}; make clean removes them", file=sys.stderr)
    return code


def as_program(folder: Path, only_stop: bool, act: Callable[[], int]) -> int:
    """Run `act` as the one demo in this folder; or stop the one that was left up. Exit code 130 after Ctrl-C, with all stopped."""
    # Asked to end it ends as with Ctrl-C, in asyncio and outside; also where a shell has begun it in the background, deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with _alone(folder):
            if only_stop:
                print(f"stopped {stop_kept(folder)} processes")
                return 0
            return act()
    except DemoFailed as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; everything is stopped", file=sys.stderr)
        return 130


def _innermost(error: BaseException) -> BaseException:
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One demo at a time beside each other in a folder: that one is locked. Raises DemoFailed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    above = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(above, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DemoFailed("another demo runs in this folder") from None
    finally:
        os.close(above)

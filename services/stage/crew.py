"""The processes of a demo: started, killed, begun again, stopped for certain; and those that an earlier one was told to leave up."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from infra.broker import Broker, BrokerUnavailable
from infra.broker.jars import java, libs
from infra.process import command_line, halt, last_lines, spawn

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".demo"
BROKER = "broker"  # its name among the processes
STOP_SECONDS = 15  # an orderly stop takes one or two; what is not over then is killed
POLL_SECONDS = 0.05


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Crew:
    """Processes that end with this one, unless `keep`: then they are noted in processes.json, for `stop_kept`."""

    def __init__(self, folder: Path, environment: Mapping[str, str], keep: bool) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self._keep = keep
        self._broker: Broker | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._begun: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}  # how each was started, to start it again

    def start_broker(self) -> str:
        """A real Kafka; returns its address. Raises BrokerUnavailable, which says what is missing."""
        self._broker = Broker(self.folder / "kafka", detached=self._keep)
        self._broker.start()
        self._note()
        return self._broker.bootstrap

    def start(self, name: str, *module: str, **more: str) -> None:
        """Start `python -m <module> …`; its output goes to <name>.log. `more` are settings of this process only."""
        self._begun[name] = module, more
        environment = {**self.environment, **more}
        argv = [sys.executable, "-m", *module]
        log = self.folder / f"{name}.log"
        with _undisturbed():
            self._running[name] = spawn(argv, log=log, cwd=ROOT, env=environment, detached=self._keep)
            self._note()

    def run(self, *module: str, quiet: bool = False) -> int:
        """Run `python -m <module> …` to its end; returns its exit code. What it says is shown here; if `quiet`, only if it failed."""
        sys.stdout.flush()
        out, err = (subprocess.PIPE, subprocess.STDOUT) if quiet else (None, None)
        ended = subprocess.run([sys.executable, "-m", *module], cwd=ROOT, env=self.environment, stdout=out, stderr=err, check=False)
        if ended.returncode and ended.stdout:
            sys.stderr.write(ended.stdout.decode(errors="replace"))
        return ended.returncode

    @property
    def names(self) -> list[str]:
        """Those that run; the broker too, if it is ours."""
        return [*self._running, *([BROKER] if self._broker is not None else [])]

    def again(self, name: str) -> None:
        """Start one again that was killed, as it was started first: what a supervisor would do."""
        if name == BROKER and self._broker is not None:
            self._broker.start()
            self._note()
            return
        module, more = self._begun[name]
        self.start(name, *module, **more)

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def take(self, name: str) -> subprocess.Popen[bytes]:
        """Hand over a process: whoever asks ends it, and it may end without `check` minding."""
        process = self._running.pop(name)
        self._note()
        return process

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash does it."""
        if name == BROKER and self._broker is not None:
            self._broker.kill()
            return
        process = self.take(name)
        process.kill()
        process.wait()

    def check(self) -> None:
        """Raises DemoFailed if one has ended by itself, with the end of its log."""
        for name, process in self._running.items():
            if process.poll() is not None:
                said = last_lines(self.folder / f"{name}.log")
                raise DemoFailed(f"{name} ended with exit code {process.returncode}; the end of its log:\n{said}")

    async def until(self, look: Callable[[], Awaitable[bool]], seconds: float, what: Callable[[], str]) -> None:
        """Wait until `await look()` holds. Raises DemoFailed if a process ends meanwhile, or after `seconds`, with `what()`."""
        until = time.monotonic() + seconds
        while not await look():
            self.check()
            if time.monotonic() > until:
                raise DemoFailed(f"after {seconds:g} s: {what()}")
            await asyncio.sleep(POLL_SECONDS)

    async def until_ready(self, urls: Collection[str], seconds: float) -> None:
        """Wait until each of these answers 200, of a process that has just started. Raises DemoFailed as `until` does."""
        waiting = set(urls)

        async with httpx.AsyncClient(trust_env=False) as http:

            async def all_answer() -> bool:
                for url in sorted(waiting):
                    with suppress(httpx.HTTPError):
                        if (await http.get(url)).status_code == 200:
                            waiting.discard(url)
                return not waiting

            await self.until(all_answer, seconds, lambda: f"no answer yet from {', '.join(sorted(waiting))}")

    def stop(self) -> None:
        """Stop all, the broker last; all are gone when this returns, or raises because somebody was impatient (Ctrl-C again)."""
        try:
            for process in self._running.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)  # all at once, so that they need not wait for each other
            for process in self._running.values():
                halt(process, STOP_SECONDS)
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()
            self._running.clear()
            if self._broker is not None:
                self._broker.stop()
                self._broker = None
            (self.folder / "processes.json").unlink(missing_ok=True)

    def _note(self) -> None:
        pids = {name: process.pid for name, process in self._running.items()}
        if self._broker is not None:
            pids[BROKER] = self._broker.pid  # the last, as it is to be stopped last
        draft = self.folder / "processes.draft"
        draft.write_text(json.dumps(pids))
        draft.replace(self.folder / "processes.json")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C takes effect at the end of this: a process that was started but not noted would never be stopped."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def no_kafka() -> str:
    """Why no Kafka can be started here, in a line (no Java, or no way to fetch it); "" if one can."""
    try:
        java()
        libs()
    except BrokerUnavailable as reason:
        return str(reason).splitlines()[0]
    return ""


def stop_kept(folder: Path = FOLDER) -> int:
    """Stop what an earlier demo left up, and remove its folder; returns how many processes were still there."""
    try:
        noted = json.loads((folder / "processes.json").read_text())
    except (FileNotFoundError, ValueError):
        noted = {}
    alive = {name: pid for name, pid in noted.items() if _is_ours(name, pid, folder)}
    broker = {name: pid for name, pid in alive.items() if name == BROKER}
    for group in ({name: pid for name, pid in alive.items() if name not in broker}, broker):
        for pid in group.values():
            os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while any(_is_ours(name, pid, folder) for name, pid in group.items()):
            if time.monotonic() > until:
                for name, pid in group.items():
                    if _is_ours(name, pid, folder):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    return len(alive)


def _is_ours(name: str, pid: int, folder: Path) -> bool:
    """Whether this process still is what was noted; its id may have been given to another since."""
    shown = command_line(pid)
    if name == BROKER:
        return str(folder / "kafka") in shown
    return "-m services." in shown or "-m saga.cli run" in shown

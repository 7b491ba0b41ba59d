"""The programs that the platform runs: a store of jobs, workers, and a web front. They know nothing of sagas, or of who starts them.

    python program.py store|web|worker --name worker-2 --run DIR --data FILE

Problem: whoever starts programs may be killed, and when it is back it does not know what still runs. Pid files go stale, and a process
id is given to another program. Taken here: a program holds a lock on its file in `--run` for as long as it lives, and writes its process
id and its port there. The kernel drops the lock with the process, so a lock that is held is a program that lives, a second copy of it
cannot run, and whoever wants its address finds it there.

`GET /health` answers 200 when it can work, else 503 with the reason. SIGTERM ends it; a worker finishes its job first. It stands on the
standard library alone, and starts in a tenth of a second.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

RUNS_ALREADY = 75  # exit codes as in sysexits.h: EX_TEMPFAIL
JOB_SECONDS = 0.2  # what a job takes: it waits for something outside, as most do
IDLE_SECONDS = 0.1  # between two looks for a job
LEASE_SECONDS = 5.0  # after so long a job goes to another worker: this one is gone
SEEN_SECONDS = 3.0  # a worker that asked for a job within this works here
ANSWER_SECONDS = 5.0

JOBS = """
CREATE TABLE IF NOT EXISTS jobs (n INTEGER PRIMARY KEY, job TEXT NOT NULL UNIQUE, lease REAL NOT NULL DEFAULT 0, worker TEXT, done REAL);
CREATE TABLE IF NOT EXISTS effects (job TEXT NOT NULL, worker TEXT NOT NULL, at REAL NOT NULL);
"""
TAKE = """
UPDATE jobs SET lease = :until, worker = :worker
WHERE n = (SELECT n FROM jobs WHERE done IS NULL AND lease < :now ORDER BY n LIMIT 1) RETURNING job
"""

Call = Callable[[dict[str, Any]], Any]


class Folders(NamedTuple):
    """Where the programs of this version say that they run, and the database of its store, which all versions share."""

    run: Path
    data: Path


class Unready(Exception):
    """It cannot work, for this reason."""


class Store:
    """Keeps jobs in SQLite. A job is given to one worker at a time, and its effect is written once, whoever says so how often."""

    def __init__(self, folders: Folders) -> None:
        self._data = folders.data
        self._seen: dict[str, float] = {}
        with self._begun() as connection:
            connection.executescript("PRAGMA journal_mode=WAL;" + JOBS)
        self.calls: dict[str, Call] = {"/add": self.add, "/take": self.take, "/done": self.done, "/load": self.load}

    def health(self) -> str:
        with self._begun() as connection:
            return f"{connection.execute('SELECT count(*) FROM jobs').fetchone()[0]} jobs"

    def add(self, asked: dict[str, Any]) -> dict[str, bool]:
        with self._begun() as connection:
            return {"new": connection.execute("INSERT OR IGNORE INTO jobs (job) VALUES (?)", (asked["job"],)).rowcount == 1}

    def take(self, asked: dict[str, Any]) -> dict[str, str]:
        now = time.time()
        self._seen[asked["worker"]] = now
        with self._begun() as connection:
            row = connection.execute(TAKE, {"until": now + LEASE_SECONDS, "worker": asked["worker"], "now": now}).fetchone()
        return {"job": row[0] if row else ""}

    def done(self, asked: dict[str, Any]) -> dict[str, bool]:
        job, worker, now = asked["job"], asked["worker"], time.time()
        with self._begun() as connection:
            first = connection.execute("UPDATE jobs SET done = ? WHERE job = ? AND done IS NULL", (now, job)).rowcount == 1
            if first:
                connection.execute("INSERT INTO effects VALUES (?, ?, ?)", (job, worker, now))
        return {"first": first}

    def load(self, _: dict[str, Any]) -> dict[str, int]:
        with self._begun() as connection:
            waiting = connection.execute("SELECT count(*) FROM jobs WHERE done IS NULL").fetchone()[0]
        return {"waiting": waiting, "working": sum(at > time.time() - SEEN_SECONDS for at in list(self._seen.values()))}

    def _begun(self) -> _Begun:
        return _Begun(self._data)


class _Begun:
    """A connection with a transaction that will write; committed at the end, and closed."""

    def __init__(self, data: Path) -> None:
        self._connection = sqlite3.connect(data, timeout=ANSWER_SECONDS, isolation_level=None)

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK" if kind else "COMMIT")
        self._connection.close()


class Web:
    """The front: shows a page, and takes jobs. It needs the store of its own version, and its page."""

    def __init__(self, folders: Folders) -> None:
        self._run = run = folders.run
        self._page = os.environ.get("PAGE", "")
        self.calls: dict[str, Call] = {"/order": lambda asked: ask(run, "store", "/add", asked)}

    def health(self) -> str:
        if self._page and not Path(self._page).is_file():
            raise Unready(f"its page {self._page} is not there")
        ask(self._run, "store", "/health")
        return "ready"


class Worker:
    """Takes one job after the other from the store of its own version."""

    def __init__(self, folders: Folders) -> None:
        self._run = folders.run
        self.calls: dict[str, Call] = {}

    def health(self) -> str:
        ask(self._run, "store", "/health")
        return "ready"

    def work(self, name: str, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if not (job := ask(self._run, "store", "/take", {"worker": name})["job"]):
                    stop.wait(IDLE_SECONDS)
                    continue
                time.sleep(JOB_SECONDS)
                ask(self._run, "store", "/done", {"worker": name, "job": job})
            except Unready as reason:  # a job that is not said to be done is given to somebody again
                print(reason, flush=True)
                stop.wait(IDLE_SECONDS)


def ask(run: Path, name: str, path: str, asked: dict[str, Any] | None = None) -> Any:
    """Ask another program of this version. Raises Unready."""
    try:
        port = json.loads((run / f"{name}.json").read_text())["port"]
        body = None if asked is None else json.dumps(asked).encode()
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", body), timeout=ANSWER_SECONDS
        ) as answer:
            return json.load(answer)
    except (OSError, ValueError, KeyError, urllib.error.URLError) as error:
        raise Unready(f"{name} does not answer: {error}") from error


def server(program: Any) -> ThreadingHTTPServer:
    """GET /health, and POST of whatever the program answers, on a port that is free."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                self._say(200, program.health())
            except (Unready, sqlite3.Error) as reason:
                self._say(503, str(reason))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"{}")
            try:
                call = program.calls.get(self.path)
                self._say(*((200, call(asked)) if call else (404, "no such call")))
            except (Unready, sqlite3.Error) as reason:
                self._say(503, str(reason))

        def _say(self, status: int, what: Any) -> None:
            body = json.dumps(what).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: its log is for what goes wrong."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("program", choices=["store", "web", "worker"])
    parser.add_argument("--name", required=True)
    parser.add_argument("--run", type=Path, required=True, help="the folder of this version's programs that run")
    parser.add_argument("--data", type=Path, required=True, help="the store's database")
    asked = parser.parse_args()
    stop = threading.Event()

    def told(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, told)
    mine = os.open(asked.run / f"{asked.name}.json", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{asked.name} runs already", flush=True)
        return RUNS_ALREADY
    program = {"store": Store, "web": Web, "worker": Worker}[asked.program](Folders(asked.run, asked.data))
    http = server(program)
    os.ftruncate(mine, 0)
    os.pwrite(mine, json.dumps({"pid": os.getpid(), "port": http.server_port}).encode(), 0)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    if isinstance(program, Worker):
        program.work(asked.name, stop)
    stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

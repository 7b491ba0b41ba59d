"""By hand: `python -m infra.broker up|down|status`. One broker a checkout, in .cache/broker, until `down`."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from infra.broker import Broker, BrokerUnavailable, probe, settings
from infra.broker.broker import STOP_SECONDS
from infra.process import command_line

HOME = Path(__file__).parents[2] / ".cache" / "broker"
PID_FILE = HOME / "broker.pid"
USUAL_PORT = 9092
NOT_RUNNING = 3  # as the init scripts of the Linux Standard Base say it


def running() -> tuple[int, int] | None:
    """Process id and port of the broker of this checkout, if it lives. An id given to another program since does not count."""
    try:
        pid, port = json.loads(PID_FILE.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return (pid, port) if str(HOME / "server.properties") in command_line(pid) else None


def up(port: int | None, heap: str, keep: bool) -> int:
    found = running()
    if found is None:
        if port is None and settings.is_free(USUAL_PORT):
            port = USUAL_PORT
        broker = Broker(HOME, port=port, heap=heap, keep=keep, detached=True)
        broker.start()
        found = broker.pid, broker.port
        PID_FILE.write_text(json.dumps(found))
    print(f"127.0.0.1:{found[1]} (process {found[0]}, log {HOME / 'broker.log'})")
    return 0


def down(keep: bool) -> int:
    found = running()
    if found is not None:
        pid, until = found[0], time.monotonic() + STOP_SECONDS
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        while running():
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
    PID_FILE.unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(HOME / "data", ignore_errors=True)
    print("stopped" if found else "not running")
    return 0


def status() -> int:
    found = running()
    if found is None:
        print("not running")
        return NOT_RUNNING
    answering = probe.answers(found[1])
    print(f"127.0.0.1:{found[1]} (process {found[0]}) {'answers' if answering else 'does not answer'}")
    return 0 if answering else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.broker", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--port", type=int, help=f"where clients connect (default: {USUAL_PORT} if free, else another)")
    parser.add_argument("--heap", default="1g", help="Java heap (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="up: go on with the data that is there; down: leave it there")
    asked = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    if asked.action == "status":
        return status()
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return up(asked.port, asked.heap, asked.keep) if asked.action == "up" else down(asked.keep)
        except BrokerUnavailable as error:
            print(error, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())

"""Which log a demo runs on: the one that its environment names; else a Kafka of its own; else a file log, saying so."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from services.stage.crew import ROOT, Crew, no_kafka

PATIENT_SECONDS = "30"  # for an answer of the log: many Python processes start at once, on what may be two slow cores; usually 10
SESSION_SECONDS = "6"  # after so long without a sign of life a process's partitions go to another; in production 10


def choose_log(crew: Crew, say: Callable[[str], None]) -> None:
    """What SAGA_LOG or SAGA_BOOTSTRAP names; else a Kafka of our own; else, where there is no way to one, a file log."""
    environment = crew.environment
    environment.setdefault("SAGA_TIMEOUT_SECONDS", PATIENT_SECONDS)
    environment |= {"SAGA_DEV": "1", "SAGA_SESSION_SECONDS": SESSION_SECONDS}
    if environment.get("SAGA_LOG") or environment.get("SAGA_BOOTSTRAP"):
        prefix = environment.setdefault("SAGA_PREFIX", f"demo-{int(time.time())}-")
        what = f"in a folder {prefix}" if environment.get("SAGA_LOG") else f"topics begin with {prefix!r} and stay there"
        say(f"the log is {log_of(crew)}, {what}")
        return
    say("looking for Java and Kafka; if Kafka is not here yet, Maven fetches it now, once")
    if reason := no_kafka():
        environment["SAGA_LOG"] = f"file:{crew.folder / 'log'}"
        say(f"no Kafka here, so the same on a file log in {shown(crew.folder)}/log: {reason}")
    else:
        say("starting Kafka")
        environment["SAGA_BOOTSTRAP"] = crew.start_broker()


def log_of(crew: Crew) -> str:
    """Where the log is, in a few words."""
    return crew.environment.get("SAGA_LOG") or f"Kafka at {crew.environment.get('SAGA_BOOTSTRAP', '?')}"


def shown(folder: Path) -> Path:
    """As short as it can be said here."""
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder

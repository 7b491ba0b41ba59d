"""What a process says on stderr: a line for each event; JSON for machines, or text for people.

    {"time":"2026-01-31T12:00:00.123Z","level":"warning","logger":"saga.instances","message":"checkout order-7 is parked: unknown",
     "saga":"checkout","key":"order-7","step":"ship","trace":"4bf92f3577b34da6a3ce929d0e0e4736"}

`saga`, `key`, `step` and `trace` stand in each line that speaks of an instance. Who knows of which one gives them with `extra=about(…)`.
The participant kit sets them for a command before it calls a handler, so what a handler logs by itself has them too. Payloads are
private: nothing here logs one, and errors of pydantic and SQLAlchemy are told to leave values out.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

from saga.engine.state import step_and_action
from saga.engine.trace import trace_id

FIELDS = ("saga", "key", "step", "trace")

# Libraries whose ordinary lines are no events of ours: aiokafka tells each rebalance and each reconnection, Faust too, httpx each
# request. What of it matters to somebody here, the log's adapters say themselves.
_LEAST = {
    "aiokafka": logging.ERROR,
    "asyncio": logging.INFO,
    "faust": logging.WARNING,
    "httpcore": logging.INFO,
    "httpx": logging.WARNING,
    "mode": logging.WARNING,
    "uvicorn": logging.WARNING,
}


# Errors that aiokafka meets, tells and tries again at each start on a new cluster or with new topics: the first group of a cluster has no
# coordinator until the broker has made its topic of offsets, and a topic that was just created is not known to every broker yet.
_PASSING = ("GroupCoordinatorNotAvailable", "not found in cluster metadata")
PASSING_SECONDS = 15.0  # a broker on a slow machine takes five; what lasts longer is a problem, and is told


class Command(NamedTuple):
    """The command that is being worked on, as far as a line needs it."""

    id: str
    key: str
    traceparent: str


working_on: ContextVar[Command | None] = ContextVar("working_on", default=None)


def about(saga: str = "", key: str = "", step: str = "", traceparent: str = "") -> dict[str, str]:
    """The `extra=` of a line that speaks of an instance; what is empty is left out."""
    given = {"saga": saga, "key": key, "step": step, "trace": trace_id(traceparent)}
    return {name: value for name, value in given.items() if value}


def set_up(kind: str, level: str) -> None:
    """Log to stderr from now on. `kind`: json, text, or "": text on a terminal, else JSON. `level`: its name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Passing())
    handler.setFormatter(Text() if (kind or ("text" if sys.stderr.isatty() else "json")) == "text" else Json())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name, least in _LEAST.items():
        logging.getLogger(name).setLevel(least)


class Json(logging.Formatter):
    """One JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


class Text(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Passing(logging.Filter):
    """Holds back what passes by itself, until it has lasted."""

    def __init__(self) -> None:
        super().__init__()
        self._since = self._last = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka") or not any(text in record.getMessage() for text in _PASSING):
            return True
        if record.created - self._last > PASSING_SECONDS:
            self._since = record.created
        self._last = record.created
        return record.created - self._since > PASSING_SECONDS


def _fields(record: logging.LogRecord) -> dict[str, str]:
    given = {name: str(record.__dict__[name]) for name in FIELDS if name in record.__dict__}
    command = working_on.get()
    if given or command is None:
        return given
    step, _action = step_and_action(command.id)
    return about(command.id.partition(":")[0], command.key, step, command.traceparent)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Settings of a process: read once from the environment, frozen, passed down. Nothing else reads the environment.

SAGA_LOG                file:PATH, a folder of this machine in the place of Kafka; empty: Kafka ("")
SAGA_BOOTSTRAP          where Kafka answers, host:port[,host:port] (127.0.0.1:9092)
SAGA_PREFIX             put before every topic and group name ("" by default)
SAGA_GROUP              the consumer group of the orchestrators ("saga")
SAGA_DEV                1: one broker is enough (replication 1); for development only
SAGA_HTTP               host:port of /metrics, /healthz and /readyz (127.0.0.1:9464); port 0 takes any free one
SAGA_PARTICIPANT_HTTP   the same of a process that runs participants (127.0.0.1:0, any free one; it says which)
SAGA_LOGS               json or text; empty: text on a terminal, else JSON ("")
SAGA_LOGS_LEVEL         debug, info, warning or error: the least that is logged (info)
SAGA_SESSION_SECONDS    after this long without a sign of life a process has lost its partitions (10)
SAGA_TIMEOUT_SECONDS    how long one answer of the log may take (10)
SAGA_SNAPSHOT_BYTES     a journal grows by at least this much between snapshots (16 MiB)
SAGA_SNAPSHOT_SECONDS   … or by this much time, if anything was decided (3600)
SAGA_HISTORY_DAYS       journal records older than this may be trimmed, up to a snapshot; 0 keeps everything (0)
SAGA_SECURITY           JSON of security_protocol, sasl_… and ssl_…, as saga/log/kafka_security.py has them; empty: plain text

Any other SAGA_… is no setting: each process says so in a line as it starts (`Config.unknown`), with the name that was probably meant.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from saga.errors import Misconfigured

_KINDS = ("", "json", "text")
_LEVELS = ("debug", "info", "warning", "error")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Config:
    log: str = ""
    bootstrap: str = "127.0.0.1:9092"
    prefix: str = ""
    group: str = "saga"
    dev: bool = False
    http: str = "127.0.0.1:9464"
    participant_http: str = "127.0.0.1:0"
    logs: str = ""
    logs_level: str = "info"
    session_seconds: float = 10.0
    timeout_seconds: float = 10.0
    snapshot_bytes: int = 16 * 1024 * 1024
    snapshot_seconds: float = 3600.0
    history_days: float = 0.0
    security: Mapping[str, Any] = field(default_factory=dict)
    unknown: Sequence[str] = ()  # a sentence for each variable that looks like a setting and is none

    def __post_init__(self) -> None:
        if self.log and not self.log_folder:
            raise Misconfigured(f"SAGA_LOG={self.log!r} is neither empty, for Kafka at SAGA_BOOTSTRAP, nor file:PATH")

        for name, value, known in (("SAGA_LOGS", self.logs, _KINDS), ("SAGA_LOGS_LEVEL", self.logs_level, _LEVELS)):
            if value not in known:
                raise Misconfigured(f"{name}={value!r} is none of {', '.join(filter(None, known))}")

    @property
    def log_folder(self) -> str:
        """PATH of SAGA_LOG=file:PATH, else ""."""
        kind, _, path = self.log.partition(":")
        return path if kind == "file" else ""

    @staticmethod
    def read(environment: Mapping[str, str] = os.environ) -> Config:
        """The settings from the environment. Raises Misconfigured for a value that does not fit."""
        known = {f"SAGA_{f.name.upper()}": f for f in fields(Config) if f.name != "unknown"}
        given: dict[str, Any] = {"unknown": _unknown(environment, known)}
        for name, f in known.items():
            text = environment.get(name, "")
            if text == "":
                continue
            try:
                given[f.name] = _READ[str(f.type)](text)
            except ValueError as error:
                if f.name == "security":  # a password may be in it
                    raise Misconfigured(f"{name} is no JSON object: {error}") from None
                raise Misconfigured(f"{name}={text!r} is not a {f.type}: {error}") from None
        return Config(**given)


def filled(text: str, environment: Mapping[str, str] = os.environ) -> tuple[str, list[str]]:
    """A text with each `${NAME}` taken from the environment, and what was taken: secrets, mostly.

    For settings of somebody's own, as an API's password: they have no name here. Raises Misconfigured, without any value.
    """
    taken: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("SAGA_"):
            raise Misconfigured(f"${{{name}}}: SAGA_… are the coordinator's own settings; give yours another name")
        if not environment.get(name):
            raise Misconfigured(f"the environment variable {name} is empty or not set")
        taken.append(environment[name])
        return environment[name]

    return _VARIABLE.sub(value, text), taken


def _unknown(names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    words = [name.removeprefix("SAGA_") for name in known]  # what all begin with makes none of them alike
    found = []
    for name in sorted(set(names) - set(known)):
        if name.startswith("SAGA_") and not name.startswith("SAGA_TEST_"):  # which belong to tests
            meant = difflib.get_close_matches(name.removeprefix("SAGA_"), words, n=1)
            found.append(f"{name} is no setting and has no effect{f'; is SAGA_{meant[0]} meant?' if meant else ''}")
    return tuple(found)


def _flag(text: str) -> bool:
    if text.lower() not in ("0", "1", "true", "false", "yes", "no"):
        raise ValueError("write 1 or 0")
    return text.lower() in ("1", "true", "yes")


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("write {…}")
    return value


_READ: dict[str, Any] = {"str": str, "bool": _flag, "int": int, "float": float, "Mapping[str, Any]": _object}

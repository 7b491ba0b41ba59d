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
SAGA_SESSION_SECONDS    after this long without a sign of life a process has lost its partitions (10); 0.5 to 1800
SAGA_TIMEOUT_SECONDS    how long one answer of the log may take (10); 0.1 to 3600
SAGA_SNAPSHOT_BYTES     a journal grows by at least this much between snapshots (16 MiB); 1 to a TiB
SAGA_SNAPSHOT_SECONDS   … or by this much time, if anything was decided (3600); 1 to a year
SAGA_HISTORY_DAYS       journal records older than this may be trimmed, up to a snapshot; 0 keeps everything (0); up to a century
SAGA_SECURITY           JSON of security_protocol, sasl_… and ssl_…, as saga/log/kafka_security.py has them; empty: plain text

Any other SAGA_… is no setting: each process says so in a line as it starts (`Config.remarks`), with the name that was probably meant;
and that SAGA_BOOTSTRAP has no effect where SAGA_LOG names a folder.
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
# The least and the most of each number. A session of 0 s, say, is over before it begins, and its process would own nothing for ever.
_RANGES: dict[str, tuple[float, float, str]] = {
    "session_seconds": (0.5, 1800, "s"),  # Kafka's brokers allow up to half an hour
    "timeout_seconds": (0.1, 3600, "s"),
    "snapshot_bytes": (1, 2**40, "bytes"),
    "snapshot_seconds": (1, 366 * 86_400, "s"),
    "history_days": (0, 36_525, "days"),
}
_NAME = re.compile(r"[A-Za-z0-9._-]*")  # of a topic, on Kafka
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
    remarks: Sequence[str] = ()  # a sentence for each variable that has no effect although it looks like a setting

    def __post_init__(self) -> None:
        if self.log and not self.log_folder:
            raise Misconfigured(f"SAGA_LOG={self.log!r} is neither empty, for Kafka at SAGA_BOOTSTRAP, nor file:PATH")

        for name, (least, most, unit) in _RANGES.items():
            if not least <= getattr(self, name) <= most:  # nor is what is no number
                raise Misconfigured(f"SAGA_{name.upper()}={getattr(self, name)} is not within {least:g} and {most:.16g} {unit}")
        if not _NAME.fullmatch(self.prefix):
            raise Misconfigured(f"SAGA_PREFIX={self.prefix!r}: a topic's name has letters, digits, '.', '_' and '-' only")
        if not self.group.strip():
            raise Misconfigured(f"SAGA_GROUP={self.group!r} is no name")
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
        known = {f"SAGA_{f.name.upper()}": f for f in fields(Config) if f.name != "remarks"}
        given: dict[str, Any] = {"remarks": (*_overruled(environment), *_unknown(environment, known))}
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


def _overruled(environment: Mapping[str, str]) -> tuple[str, ...]:
    log, bootstrap = environment.get("SAGA_LOG"), environment.get("SAGA_BOOTSTRAP")
    if not (log and bootstrap):
        return ()
    return (f"SAGA_LOG={log} counts, and SAGA_BOOTSTRAP={bootstrap} has no effect; for Kafka: unset SAGA_LOG",)


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

"""Which log a process uses: the one place that knows all adapters. The orchestrator, the services and every tool open theirs here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from saga.config import Config
from saga.log.base import Log
from saga.log.file import FileLog
from saga.log.kafka import KafkaLog


def open_log(config: Config, client: str, *, make: bool = True) -> Log:
    """The log that the settings name; still to be opened, inside a running loop.

    `make` off: for those who only look. A file log that is not there is then no new one but a mistake, Misconfigured on opening.
    """
    if (folder := file_log(config)) is not None:
        return FileLog(folder, client_id=client, timeout=config.timeout_seconds, session_timeout=config.session_seconds, make=make)
    return KafkaLog(
        config.bootstrap,
        client_id=client,
        prefix=config.prefix,
        security=config.security,
        timeout=config.timeout_seconds,
        session_timeout=config.session_seconds,
    )


@asynccontextmanager
async def opened(config: Config, client: str, *, make: bool = True) -> AsyncIterator[Log]:
    """The same, open inside and closed behind. Raises what opening raises: Misconfigured, Unavailable."""
    log = open_log(config, client, make=make)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


def file_log(config: Config) -> Path | None:
    """The folder of the file log, if that is what is used. A prefix, which begins every name on Kafka, is a folder in it here."""
    folder = config.log_folder
    return Path(folder, config.prefix) if folder else None


def safety(config: Config) -> tuple[int, int]:
    """Replication and min.insync.replicas that the topics must have: 3 and 2; 1 and 1 with SAGA_DEV=1, and in a file log."""
    return (1, 1) if config.dev or file_log(config) is not None else (3, 2)


def remark(config: Config) -> str:
    """What somebody who looks at topics has to know about this log, in a line; "" where there is nothing to say."""
    if (folder := file_log(config)) is None:
        return ""
    return f"{folder} is a file log, on one machine: replication does not apply, its disk is the only copy"

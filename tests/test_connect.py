"""Which log the settings name, and whom the other settings reach."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from saga.app import App
from saga.config import Config
from saga.connect import file_log, open_log, remark, safety
from saga.errors import Misconfigured
from saga.log.base import Record, TopicPartition, TopicSpec
from saga.log.file import FileLog
from saga.log.kafka import KafkaLog
from saga.orchestrate import _settings
from saga.runtime.worker import WorkerSettings


def test_without_a_word_it_is_kafka() -> None:
    async def scene() -> None:
        assert isinstance(open_log(Config.read({}), "test"), KafkaLog)

    asyncio.run(scene())
    assert file_log(Config.read({})) is None
    assert remark(Config.read({})) == ""
    assert safety(Config.read({})) == (3, 2)
    assert safety(Config.read({"SAGA_DEV": "1"})) == (1, 1)


def test_a_path_is_a_file_log_with_a_folder_for_each_prefix(tmp_path: Path) -> None:
    async def write(prefix: str, word: bytes) -> None:
        log = open_log(Config.read({"SAGA_LOG": f"file:{tmp_path}", "SAGA_PREFIX": prefix}), "test")
        assert isinstance(log, FileLog)
        await log.open()
        await log.create([TopicSpec("t", 1)])
        assert (await log.append(TopicPartition("t", 0), [Record(None, word)])).offset == 0, "the prefixes are apart"
        await log.close()

    for prefix in ("", "one-", "two-"):
        asyncio.run(write(prefix, prefix.encode()))
    assert all((tmp_path / prefix / "log.db").exists() for prefix in ("", "one-", "two-"))


def test_replication_does_not_apply_to_a_file_log() -> None:
    config = Config.read({"SAGA_LOG": "file:/somewhere"})
    assert safety(config) == (1, 1)
    assert "/somewhere is a file log" in remark(config)


@pytest.mark.parametrize("text", ["kafka", "file:", "file", "sqlite:x"])
def test_what_is_no_log_is_told(text: str) -> None:
    with pytest.raises(Misconfigured, match="SAGA_LOG"):
        Config.read({"SAGA_LOG": text})


def test_both_logs_have_the_time_limits_that_are_set(tmp_path: Path) -> None:
    async def scene() -> None:
        config = Config(timeout_seconds=3.0, session_seconds=4.0)
        kafka = open_log(config, "test")
        assert isinstance(kafka, KafkaLog)
        assert (kafka._cluster.timeout, kafka._session_timeout) == (3.0, 4.0)
        file = open_log(replace(config, log=f"file:{tmp_path}"), "test")
        assert isinstance(file, FileLog)
        assert (file._reading.timeout, file._writing.timeout, file._session) == (3.0, 3.0, 4.0)

    asyncio.run(scene())


def test_an_orchestrator_takes_over_every_setting_that_is_for_it() -> None:
    app, lost = App(sagas=[], begin="latest", partitions=3), [TopicPartition("t", 1)]
    config = Config(group="g", snapshot_bytes=1, snapshot_seconds=2.0, history_days=3.0)
    assert _settings(app, config, lost) == WorkerSettings(3, "latest", "g", "", 1, 2.0, 3.0, lost)

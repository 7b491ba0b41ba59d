"""The broker that the other tests stand on: it comes up, answers, comes back with its data, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]

from infra.broker import Broker, BrokerUnavailable, jars, probe, settings
from infra.process import command_line

pytestmark = pytest.mark.kafka

GONE_SECONDS = 10.0


def is_gone(pid: int) -> bool:
    """Whether the process ends within GONE_SECONDS."""
    until = time.monotonic() + GONE_SECONDS
    while command_line(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


async def write_one(bootstrap: str, topic: str, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(topic, value, partition=0)
    await producer.stop()


async def read_one(bootstrap: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.seek_to_beginning()
    record = await asyncio.wait_for(consumer.getone(), 20)
    await consumer.stop()
    value: bytes | None = record.value
    return value


def test_a_killed_broker_comes_back_at_its_address_with_its_records_and_stops_without_a_trace(tmp_path: Path) -> None:
    with Broker(tmp_path, heap="512m") as broker:
        bootstrap, first = broker.bootstrap, broker.pid
        asyncio.run(write_one(bootstrap, "kept", b"still here"))
        broker.kill()
        assert not command_line(first), "a killed broker still runs"
        assert not probe.answers(broker.port), "a killed broker answers"
        broker.start()
        second = broker.pid
        assert broker.bootstrap == bootstrap, "a restart moved the broker to another address"
        assert asyncio.run(read_one(bootstrap, "kept")) == b"still here"
    assert not command_line(second), "a stopped broker still runs"
    assert settings.is_free(broker.port), "a stopped broker still holds its port"


def test_a_paused_broker_does_not_answer_until_it_is_resumed_and_stops_even_while_paused(tmp_path: Path) -> None:
    with Broker(tmp_path, heap="512m") as broker:
        broker.pause()
        assert not probe.answers(broker.port, timeout=0.5), "a paused broker answers"
        broker.resume()
        assert probe.answers(broker.port, timeout=10), "a resumed broker does not answer"
        pid = broker.pid
        broker.pause()
    assert not command_line(pid), "a broker stopped while paused still runs"


def test_two_brokers_run_at_once_and_each_answers_for_itself(tmp_path: Path) -> None:
    with Broker(tmp_path / "one", heap="512m") as one, Broker(tmp_path / "two", heap="512m") as two:
        assert one.bootstrap != two.bootstrap
        asyncio.run(write_one(one.bootstrap, "same", b"one"))
        asyncio.run(write_one(two.bootstrap, "same", b"two"))
        assert asyncio.run(read_one(one.bootstrap, "same")) == b"one"
        assert asyncio.run(read_one(two.bootstrap, "same")) == b"two"


STARTER = """
import sys, threading, time
from pathlib import Path
from infra.broker import Broker
broker = Broker(Path(sys.argv[1]), heap="512m")
thread = threading.Thread(target=broker.start)  # a broker started by a thread outlives that thread
thread.start()
thread.join()
print(broker.pid, broker.port, flush=True)
time.sleep(600)
"""


def test_no_java_is_left_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert starter.stdout
        pid, port = map(int, starter.stdout.readline().split())
        assert probe.answers(port, timeout=10), "the broker ended with the thread that started it"
        assert command_line(pid)
    finally:
        starter.kill()
        starter.communicate()
    assert is_gone(pid), f"Java (process {pid}) outlived the killed process that started it"


def test_ctrl_c_while_it_starts_leaves_no_java(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER.replace("thread.start()", "broker.start()"), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        java = first_child_java(starter.pid)
        starter.send_signal(signal.SIGINT)
        starter.communicate(timeout=30)
    finally:
        starter.kill()
        starter.communicate()
    assert starter.returncode != 0
    assert is_gone(java), f"Java (process {java}) outlived Ctrl-C"


def first_child_java(parent: int) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and "kafka.Kafka" in command_line(int(entry.name)) and parent_of(int(entry.name)) == parent:
                return int(entry.name)
        time.sleep(0.02)
    raise AssertionError("no Java was started")


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def test_a_broker_that_cannot_start_says_what_its_log_says(tmp_path: Path) -> None:
    broker = Broker(tmp_path, heap="512m", more={"node.id": "not a number"})
    with pytest.raises(BrokerUnavailable, match="not a number"):
        broker.start()


def test_a_machine_without_java_or_maven_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(BrokerUnavailable, match=r"Java is missing.*apt-get install openjdk-17-jre-headless maven"):
        jars.java()
    with pytest.raises(BrokerUnavailable, match=r"Maven is missing.*apt-get install openjdk-17-jre-headless maven"):
        jars.libs(cache=tmp_path)

"""The settings of a broker that stands alone on this machine, for tests and demos."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from pathlib import Path

# Replication 1 everywhere: there is one node. The rest makes tests quick: no wait before a group's first rebalance, short
# sessions allowed, retention and deletion looked after every second, and a killed broker let in again after 3 s, not 9.
ALONE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "16777216",  # the default of 128 MiB is a quarter of our heap
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
}

LOGGING = """\
status = error
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n
"""


def server_properties(data: Path, port: int, controller_port: int, more: Mapping[str, str]) -> str:
    """The text of server.properties; `more` wins over what stands here."""
    own = {
        "log.dirs": str(data),
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
    }
    return "".join(f"{name}={value}\n" for name, value in {**ALONE, **own, **more}.items())


def is_free(port: int) -> bool:
    """Whether a server could listen here now."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below those the system gives to outgoing connections.

    A port from that range (what binding to 0 gives) may be lost while a broker restarts: a client that keeps knocking can be
    given the very port it knocks on, and is then connected to itself. Somebody may still be quicker; the caller tries again.
    """
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        lowest = 49152  # IANA's first dynamic port, RFC 6335
    found: list[int] = []
    for port in random.sample(range(10_000, max(lowest, 20_000)), 1000):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports below {lowest}")

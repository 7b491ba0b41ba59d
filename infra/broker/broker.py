"""One real Kafka broker in a folder, broker and controller in one process."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.broker import jars, probe, settings
from infra.broker.errors import BrokerUnavailable
from infra.process import halt, last_lines, spawn

START_SECONDS = 90  # 3 to 5 s on a quiet machine; a machine that tests on every core at once needs far more
STOP_SECONDS = 15  # an orderly stop takes 1 to 3 s; what is not over then is killed
POLL_SECONDS = 0.05
PORT_TRIES = 5
# Java's second compiler works for minutes at a fresh broker, with a quarter of a core: on a small machine that is most of what a broker
# takes which has little to do, and it slows down what is tested, shown or measured beside it. A broker in production is past that time.
QUICK = "-XX:TieredStopAtLevel=1"
TAKEN = "Address already in use"


class Broker:
    """A broker on 127.0.0.1 that ends with this process (unless `detached`).

    `directory` gets server.properties, broker.log and data/. The data is fresh for each Broker object unless `keep`; `start`
    after `stop` or `kill` of the same object always goes on with the same data and ports. `port`: None takes a free one.
    `heap` as Java's -Xmx has it; `more` are broker settings that win over settings.py.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        heap: str = "768m",
        keep: bool = False,
        detached: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "broker.log"
        self._wanted_port = port
        self._heap = heap
        self._fresh = not keep
        self._detached = detached
        self._more = dict(more or {})
        self._ports: tuple[int, int] | None = None  # for clients, for the controller
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        assert self._ports, "not started yet"
        return self._ports[0]

    @property
    def bootstrap(self) -> str:
        """The address clients are given; it stays the same over restarts."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running Java."""
        return self._running().pid

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"

    def start(self) -> None:
        """Start, and return once the broker answers a real request.

        Raises BrokerUnavailable if Java or the jars cannot be had, or with the end of the log if it does not come up.
        """
        assert self._process is None, f"the broker at {self.bootstrap} runs already"
        java, libs = jars.java(), jars.libs()
        self.directory.mkdir(parents=True, exist_ok=True)
        for _ in range(PORT_TRIES):
            self._prepare(java, libs)
            written = self.log.stat().st_size
            self._process = spawn(self._server(java, libs), log=self.log, cwd=self.directory, detached=self._detached)
            try:
                if self._wait_until_ready():
                    return
            except BaseException:
                self.kill()
                raise
            self._process = None
            if self._wanted_port is not None or TAKEN not in self.log.read_text(errors="replace")[written:]:
                break
            self._fresh = True  # somebody took a port we had found free: begin anew on others
        raise BrokerUnavailable(f"the broker ended while starting; the end of {self.log}:\n{last_lines(self.log)}")

    def stop(self) -> None:
        """Stop in order, and by force if that takes too long; it is gone when this returns. Harmless if it does not run."""
        if self._process is not None:
            halt(self._process, STOP_SECONDS)
            self._process = None

    def kill(self) -> None:
        """SIGKILL: what a crash does. The data stays for the next `start`."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, until `resume`."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the broker does not run"
        return self._process

    def _prepare(self, java: str, libs: Path) -> None:
        """Settings, ports and a formatted data folder; what a former start has left is used again."""
        data, kept_ports = self.directory / "data", self.directory / "ports.json"
        if self._fresh:
            shutil.rmtree(data, ignore_errors=True)
            kept_ports.unlink(missing_ok=True)
            self._fresh = False
        if kept_ports.exists():
            # The controller's address is part of the data (the voters of its quorum, KIP-853), so both ports are kept with it.
            client_port, controller_port = json.loads(kept_ports.read_text())
        else:
            client_port, controller_port = settings.free_ports(2)
        self._ports = (self._wanted_port or client_port, controller_port)
        kept_ports.write_text(json.dumps(self._ports))
        self.properties.write_text(settings.server_properties(data, *self._ports, self._more))
        (self.directory / "log4j2.properties").write_text(settings.LOGGING)
        if not (data / "meta.properties").exists():
            self._format(java, libs)

    def _format(self, java: str, libs: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # An id may begin with "-": hence the equals sign.
        arguments = ["format", "--standalone", f"--cluster-id={cluster}", "-c", str(self.properties)]
        quick = [QUICK, "-XX:+UseSerialGC", *self._jvm(libs)]
        tool = spawn([java, *quick, "kafka.tools.StorageTool", *arguments], log=self.log, cwd=self.directory)
        try:
            code = tool.wait(START_SECONDS)
        finally:
            halt(tool, 0)
        if code != 0:
            raise BrokerUnavailable(f"the data folder could not be formatted; the end of {self.log}:\n{last_lines(self.log)}")

    def _jvm(self, libs: Path) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={(self.directory / 'log4j2.properties').as_uri()}"
        tidy = [jars.NO_TRACE, f"-XX:ErrorFile={self.directory / 'crash.log'}"]
        return ["-cp", f"{libs}/*", logging, *tidy]

    def _server(self, java: str, libs: Path) -> list[str]:
        memory = [f"-Xmx{self._heap}", "-Xms128m", "-XX:+ExitOnOutOfMemoryError"]
        return [java, *memory, QUICK, *self._jvm(libs), "kafka.Kafka", str(self.properties)]

    def _wait_until_ready(self) -> bool:
        """True once it answers, False if it ended. Raises BrokerUnavailable if it does neither in time."""
        process, until = self._running(), time.monotonic() + START_SECONDS
        while process.poll() is None:
            if probe.answers(self.port):
                return True
            if time.monotonic() > until:
                said = last_lines(self.log)
                raise BrokerUnavailable(f"no answer at {self.bootstrap} after {START_SECONDS} s; the end of {self.log}:\n{said}")
            time.sleep(POLL_SECONDS)
        return False

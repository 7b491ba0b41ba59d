"""One real Prometheus in a folder, for tests."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.process import halt, last_lines, spawn

UNPACKED = Path(__file__).parents[2] / ".cache" / "prometheus" / "usr" / "bin"
START_SECONDS = 30.0  # half a second on a quiet machine
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05


class PrometheusUnavailable(Exception):
    """No Prometheus can be had here; the message says what is missing, or ends with the last lines of its log."""


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`. Raises PrometheusUnavailable."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        raise PrometheusUnavailable(f"there is no {name}; infra/prepare.sh test fetches Debian's package `prometheus`")
    return found


class Prometheus:
    """A Prometheus on 127.0.0.1 that ends with this process. `config` is its prometheus.yml; `port` must be free."""

    def __init__(self, config: Path, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._config = config
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it is ready. Raises PrometheusUnavailable."""
        self._directory.mkdir(parents=True, exist_ok=True)
        log = self._directory / "prometheus.log"
        argv = [
            program("prometheus"),
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        self._process = spawn(argv, log=log)
        until = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise PrometheusUnavailable(f"Prometheus did not start; the end of its log:\n{last_lines(log)}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """It is gone when this returns."""
        if self._process is not None:
            halt(self._process, STOP_SECONDS)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _ready(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

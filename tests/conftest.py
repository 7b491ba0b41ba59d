"""The real servers of a test session, each started once, when the first test asks for it, and stopped for certain.

A test that needs one which cannot be had is skipped, with the reason. Where CI=true that is a failure of the whole run: a
green run must mean that these tests ran.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from infra import chromium as browser
from infra.broker import Broker, BrokerUnavailable
from infra.postgresql import Postgresql, PostgresqlUnavailable
from infra.prometheus import PrometheusUnavailable, program

NEEDS_A_SERVER = ("kafka", "postgresql", "prometheus", "browser")
skipped_in_ci: list[str] = []


class SessionBroker(NamedTuple):
    """Where the session's broker is. No more than that: all tests share it, one that kills or pauses a broker starts its own."""

    bootstrap: str


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path, since a Unix socket's is limited to some 100 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="saga-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def broker() -> Iterator[SessionBroker]:
    """A real Kafka: the one SAGA_TEST_BOOTSTRAP names, else one started for this session."""
    given = os.environ.get("SAGA_TEST_BOOTSTRAP")
    if given:
        yield SessionBroker(given)
        return
    with temporary_folder() as folder:
        kafka = Broker(folder)
        try:
            kafka.start()
        except BrokerUnavailable as reason:
            pytest.skip(f"no Kafka broker: {reason}")
        try:
            yield SessionBroker(kafka.bootstrap)
        finally:
            kafka.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The SQLAlchemy URL of a real PostgreSQL, started for this session."""
    with temporary_folder() as folder:
        server = Postgresql(folder)
        try:
            server.start()
        except PostgresqlUnavailable as reason:
            pytest.skip(f"no PostgreSQL: {reason}")
        try:
            yield server.url
        finally:
            server.stop()


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of a real promtool, which comes with Prometheus."""
    try:
        return program("promtool")
    except PrometheusUnavailable as reason:
        pytest.skip(f"no Prometheus: {reason}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a real Chromium."""
    try:
        return browser.program()
    except browser.ChromiumUnavailable as reason:
        pytest.skip(f"no browser: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.skipped and os.environ.get("CI") == "true" and any(item.get_closest_marker(name) for name in NEEDS_A_SERVER):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skipped_in_ci.append(f"{item.nodeid}: {reason}")
    return report  # type: ignore[return-value]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if skipped_in_ci and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if skipped_in_ci:
        terminalreporter.section("skipped, which CI=true does not allow", red=True)
        for line in skipped_in_ci:
            terminalreporter.write_line(line)

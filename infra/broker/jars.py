"""Kafka's jars: named by pom.xml, fetched once by Maven, kept inside the checkout.

Only a whole set is ever found under its final name: Maven fills a folder beside it, which is renamed at the end. So a download
that was interrupted is done again, and callers that come at the same time wait for the first (a file lock).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

from infra.broker.errors import BrokerUnavailable

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).parents[2] / ".cache" / "kafka"
JAVA_AT_LEAST = 17  # Kafka 4 brokers, KIP-1013
FETCH_SECONDS = 600  # 54 MB; a slow line is no reason to fail, a hanging one is
NO_TRACE = "-XX:-UsePerfData"  # else every Java leaves a folder in the system's temporary one
INSTALL = "as root on Debian: apt-get install openjdk-17-jre-headless maven"


def java() -> str:
    """The path of a Java runtime that can run the broker. Raises BrokerUnavailable if there is none."""
    found = shutil.which("java")
    if found is None:
        raise BrokerUnavailable(f"Java is missing ({JAVA_AT_LEAST} or newer is needed); {INSTALL}")
    said = subprocess.run([found, NO_TRACE, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_AT_LEAST:
        raise BrokerUnavailable(f"Java {JAVA_AT_LEAST} or newer is needed, {found} says {said.strip()!r}; {INSTALL}")
    return found


def kafka_version() -> str:
    """The version that pom.xml pins."""
    pinned = re.search(r"<kafka\.version>([^<]+)<", POM.read_text())
    assert pinned, f"{POM} names no kafka.version"
    return pinned[1]


def libs(cache: Path = CACHE) -> Path:
    """The folder with all jars, fetched if it is not there. Raises BrokerUnavailable if it cannot be fetched."""
    home = cache / kafka_version()
    if _complete(home):
        return home / "libs"
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerUnavailable(f"Maven is missing, and the Kafka jars are not in {home}; {INSTALL}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _complete(home):
            _fetch(maven, home)
    return home / "libs"


def _complete(home: Path) -> bool:
    """Whether these jars are what today's pom.xml asks for: the pom they came from is kept beside them."""
    kept = home / "pom.xml"
    return kept.exists() and kept.read_bytes() == POM.read_bytes()


def _fetch(maven: str, home: Path) -> None:
    work = home.with_name("partial")
    shutil.rmtree(work, ignore_errors=True)
    made = work / "made"
    made.mkdir(parents=True)
    # Maven's own store goes too: nothing is left outside the checkout, and nothing is kept twice in it.
    command = [maven, "-q", "-B", "-f", str(POM), f"-Dmaven.repo.local={work / 'm2'}"]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={made / 'libs'}"]
    try:
        environment = os.environ | {"MAVEN_OPTS": f"{os.environ.get('MAVEN_OPTS', '')} {NO_TRACE}"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        raise BrokerUnavailable(f"Maven did not fetch the Kafka jars within {FETCH_SECONDS} s") from None
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BrokerUnavailable(f"Maven could not fetch the Kafka jars (exit code {done.returncode}):\n{said}")
    shutil.copyfile(POM, made / "pom.xml")
    shutil.rmtree(home, ignore_errors=True)
    made.rename(home)
    shutil.rmtree(work, ignore_errors=True)

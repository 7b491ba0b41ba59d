"""A Java project of this checkout, built by Maven into .cache/java: as with the broker's jars, only a whole build is ever found.

A build is named by what it was made from, so one that is there is right, and a change makes another. Nothing is left outside the
checkout, and a Java runtime is enough: the compiler comes with the jars.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache" / "java"
BUILD_SECONDS = 600  # some 40 MB the first time; a slow line is no reason to fail, a hanging one is
NO_TRACE = "-XX:-UsePerfData"  # else every Java leaves a folder in the system's temporary one
SMALL = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError", NO_TRACE)


class JavaUnavailable(Exception):
    """The project cannot be built here; the message says what is missing, or ends with what Maven said."""


def command(project: Path, main: str, cache: Path = CACHE) -> list[str]:
    """The command line that runs class `main` of a project, which is built if it is not yet. Raises JavaUnavailable."""
    java = shutil.which("java")
    if java is None:
        raise JavaUnavailable("Java is missing (17 or newer is needed); as root on Debian: apt-get install openjdk-17-jre-headless")
    home = built(project, cache)
    return [java, *SMALL, "-cp", f"{home / 'classes'}:{home / 'libs'}/*", main]


def built(project: Path, cache: Path = CACHE) -> Path:
    """The folder with `classes` and `libs` of a project. Raises JavaUnavailable if it cannot be built."""
    home = cache / f"{project.name}-{_digest(project)}"
    if home.exists():
        return home
    maven = shutil.which("mvn")
    if maven is None:
        raise JavaUnavailable(
            f"Maven is missing, and {project.name} is not built in {cache}; as root on Debian: apt-get install maven"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _build(maven, project, home)
    return home


def _digest(project: Path) -> str:
    made = hashlib.blake2b(digest_size=8)
    for file in (project / "pom.xml", *sorted(project.glob("src/**/*.java"))):
        made.update(f"{file.relative_to(project)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return made.hexdigest()


def _build(maven: str, project: Path, home: Path) -> None:
    work = home.with_name("partial")
    shutil.rmtree(work, ignore_errors=True)
    # Maven's own store stays: a change of the sources is compiled anew, and fetches nothing.
    argv = [maven, "-q", "-B", "-f", str(project / "pom.xml"), f"-Dmaven.repo.local={home.with_name('m2')}", f"-Dout={work}"]
    argv += ["compiler:compile", "dependency:copy-dependencies"]
    environment = os.environ | {"MAVEN_OPTS": f"{os.environ.get('MAVEN_OPTS', '')} {NO_TRACE}"}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        raise JavaUnavailable(f"Maven did not build {project.name} within {BUILD_SECONDS} s") from None
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise JavaUnavailable(f"Maven could not build {project.name} (exit code {done.returncode}):\n{said}")
    for older in home.parent.glob(f"{project.name}-*"):
        shutil.rmtree(older)
    work.rename(home)

"""`saga new`: what it writes is as strict as this package, its tests pass, and it runs as its README says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saga.errors import Misconfigured
from saga.new import create

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds


class Project:
    """A new project, and commands run in its folder, without any Kafka: with a file log of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")}
        self.environment |= {"SAGA_LOG": "file:.saga", "SAGA_HTTP": "127.0.0.1:0", "PYTHONPATH": ""}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, *arguments]
        return subprocess.run(
            line, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def passes(self, *arguments: str) -> str:
        done = self.python(*arguments)
        assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        process = subprocess.Popen([sys.executable, *arguments], cwd=self.folder, env=self.environment)
        try:
            yield
            assert process.poll() is None, f"{arguments} ended by itself with {process.returncode}"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, f"{arguments} did not end in order"

    def until_shown(self, key: str, words: str) -> None:
        end, said = time.monotonic() + PATIENCE, ""
        while words not in said:  # each look is a process of its own, so this loop is no busy one
            assert time.monotonic() < end, f"{words!r} is never shown of {key}: {said}"
            said = self.python("-m", "saga.cli", "show", key).stdout


@pytest.mark.parametrize("name", ["web_shop", "x", "a_name_as_long_as_it_may_be_30"])
def test_a_new_project_is_strict_and_its_tests_pass(tmp_path: Path, name: str) -> None:
    files = create(name, tmp_path)
    assert all(file.is_file() for file in files)
    project = Project(tmp_path / name)
    left = [file for file in files if "@NAME@" in file.read_text() or "@VARIABLE@" in file.read_text()]
    assert not left, "a template was not filled in"
    project.passes("-m", "ruff", "check", "--no-cache", ".")
    project.passes("-m", "ruff", "format", "--no-cache", "--check", ".")
    assert "6 passed" in project.passes("-m", "pytest", "-q", "-p", "no:cacheprovider")
    if name == "web_shop":  # one is enough: a name changes no type
        project.passes("-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache" / "new"), name, "tests")


@pytest.mark.slow
def test_a_new_project_runs_as_its_readme_says(tmp_path: Path) -> None:
    create("web_shop", tmp_path)
    project = Project(tmp_path / "web_shop")
    readme = (project.folder / "README.md").read_text()
    for command in ("saga topics apply", "saga run", "python -m web_shop ", "python -m web_shop order o1 42", "saga show o1"):
        assert command in readme
    project.passes("-m", "saga.cli", "topics", "apply")
    with project.running("-m", "saga.cli", "run"), project.running("-m", "web_shop"):
        assert project.passes("-m", "web_shop", "order", "o1", "42").startswith("o1 is ordered; ")
        project.passes("-m", "web_shop", "order", "o2", "5000")
        project.until_shown("o1", "web-shop o1 · completed")
        project.until_shown("o2", "web-shop o2 · compensated")
    again, wrong = project.python("-m", "web_shop", "order", "o1", "43"), project.python("-m", "web_shop", "order", "o3", "x")
    assert (again.returncode, again.stderr) == (1, "there is an order o1 already; another one needs another id\n")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("python -m web_shop ")
    assert "decisions in 16 partitions; nothing was compared" in project.python("-m", "saga.cli", "replay").stderr, (
        "they are too few for a snapshot"
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    with pytest.raises(Misconfigured, match="is there already; nothing is overwritten"):
        create("shop", tmp_path)
    (tmp_path / "shop").rmdir()
    (tmp_path / "shop").write_text("a file")
    with pytest.raises(Misconfigured, match="is there already"):
        create("shop", tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["shop"]
    assert (tmp_path / "shop").read_text() == "a file"


@pytest.mark.parametrize(
    "name", ["", "Shop", "1shop", "web-shop", "web shop", "_shop", "shop_", "a__b", "../x", "a/b", "a" * 31, "é", "x\n"]
)
def test_what_cannot_be_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misconfigured, match="a name is lower-case letters"):
        create(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["class", "match", "json", "asyncio", "saga", "tests", "stock"])
def test_a_name_that_hides_another_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misconfigured, match="is taken"):
        create(name, tmp_path)


def test_the_command_says_what_it_wrote_and_what_is_next(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "saga.cli", "new", "shop"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert "shop/README.md" in done.stdout.split()
    assert "cd shop, then pytest" in done.stderr
    again = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (again.returncode, again.stdout) == (2, "")
    assert "nothing is overwritten" in again.stderr

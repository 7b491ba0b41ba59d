"""The first saga of README.md, typed as it stands there: into a fresh folder, in a shell, in order; it says what the page shows.

Only the installation is not done here, since it needs a network: the package under test is used instead.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pages import ROOT, Block, blocks_of

PATIENCE = 60.0  # seconds until a shown output has come
SECTION = "Your first saga in ten minutes"
VARYING = (  # what is another at each run, most special first
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "DATE"),
    (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
    (r"(\d+ min )?\+?\d+(\.\d+)? ?(ms|s|min)\b", "SPAN"),
    (r"trip:(\w+):\w+", r"trip:\1:RUN"),
    (r"(?m)^[ \t]+", ""),  # a column is as wide as its longest time
    (r"[ \t]+", " "),
)


class Shell:
    """One bash that is typed into; `folder` is where its reader stands after the installation."""

    def __init__(self, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SAGA_HTTP": "127.0.0.1:0",  # other tests run, too
        }
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, text: str) -> tuple[str, int]:
        """What it says, and the exit code of the last command."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{text}\necho @@@$?\n")
        self._bash.stdin.flush()
        said = []
        for line in self._bash.stdout:
            before, end, code = line.partition("@@@")
            said.append(before)
            if end:
                return "".join(said), int(code)
        raise AssertionError(f"the shell ended: {''.join(said)}")

    def until(self, text: str, shown: str) -> None:
        """Type it, and its last line again until that says what is shown: what runs in the background takes its time."""
        *before, last = text.splitlines()
        end = time.monotonic() + PATIENCE
        if before:
            self.type("\n".join(before))
        while not bare(said := self.type(last)[0]).endswith(bare(shown)):
            assert time.monotonic() < end, f"$ {last}\nshould say\n{shown}\nbut says\n{said}"

    def close(self) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()


@contextmanager
def a_shell(folder: Path) -> Iterator[Shell]:
    shell = Shell(folder)
    try:
        yield shell
    finally:
        shell.close()


def bare(text: str) -> str:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text.strip()


def walk() -> list[Block]:
    """The blocks that are typed, in order: without the installation before, and another Kafka's commands after."""
    blocks = [block for block in blocks_of("README.md") if block.section == SECTION]
    assert "pip install" in blocks[0].text, "the first block is the installation"
    assert blocks[-1].text.startswith("unset SAGA_LOG"), "the last block is for another log"
    return blocks[1:-1]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_first_saga_works_as_it_is_written(tmp_path: Path) -> None:
    blocks, shown = walk(), 0
    with a_shell(tmp_path) as shell:
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            if block.language == "python":
                assert block.file, f"no sentence before it names the file of\n{block.text}"
                (tmp_path / block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "sh" and after is not None and after.language == "text":
                shell.until(block.text, after.text)
                shown += 1
            elif block.language == "sh":
                said, code = shell.type(block.text)
                assert code == 0, f"$ {block.text}\n{said}"
        shell.type("wait")
    assert shown >= 4, "hardly any output was compared"
    for name in ("run.log", "trip.log"):
        log = (tmp_path / name).read_text(encoding="utf-8")
        assert '"level":"info"' in log
        assert '"level":"error"' not in log, log
        assert "Traceback" not in log, log


def test_its_code_is_strict(tmp_path: Path) -> None:
    files = [block for block in walk() if block.language == "python"]
    for block in files:
        (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    line = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "new"), *(b.file for b in files)]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert len(files) == 2

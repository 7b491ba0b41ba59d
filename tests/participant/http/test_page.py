"""docs/HTTP_PARTICIPANT.md: what it tells to try is typed as it stands there, and says what the page shows."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.pages import ROOT, Block, blocks_of
from tests.test_readme import a_shell

SECTION = "Try it"


def walk() -> list[Block]:
    return [block for block in blocks_of("docs/HTTP_PARTICIPANT.md") if block.section == SECTION]


def write(folder: Path) -> list[str]:
    files = [block for block in walk() if block.language in ("python", "toml")]
    for block in files:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    assert [block.file for block in files] == ["shop.py", "card.toml", "card_api.py"]
    return [block.file for block in files]


@pytest.mark.slow
def test_what_the_page_tells_to_try_works(tmp_path: Path) -> None:
    write(tmp_path)
    shown, blocks = 0, [block for block in walk() if block.language in ("sh", "text")]
    with a_shell(tmp_path) as shell:
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            if block.language == "sh" and after is not None and after.language == "text":
                shell.until(block.text, after.text)
                shown += 1
            elif block.language == "sh":
                said, code = shell.type(block.text)
                assert code == 0, f"$ {block.text}\n{said}"
        shell.type("wait")
    assert shown >= 4, "hardly any output was compared"
    log = (tmp_path / "shop.log").read_text(encoding="utf-8")
    assert '"level":"warning"' in log, "the 500 was told"
    assert "Traceback" not in log.replace('"error":"Traceback', ""), log
    assert "t0ken" not in log


def test_its_code_is_strict(tmp_path: Path) -> None:
    files = [name for name in write(tmp_path) if name.endswith(".py")]
    line = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "new"), *files]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_its_file_is_toml(tmp_path: Path) -> None:
    write(tmp_path)
    assert len(tomllib.loads((tmp_path / "card.toml").read_text(encoding="utf-8"))["call"]) == 3

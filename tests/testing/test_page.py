"""docs/TESTING.md is what it says: one file of tests that pass, as strict as this package."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


PAGE = (ROOT / "docs" / "TESTING.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's code as one file, test_page.py."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "test_page.py").write_text("\n\n".join(blocks("python")), encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_code_of_the_page_runs_and_is_strict(page: Path) -> None:
    tests = len(re.findall(r"^def test_", (page / "test_page.py").read_text(encoding="utf-8"), re.MULTILINE))
    assert tests >= 8, "the page has hardly any tests left"
    installed = any(point.value == "saga.testing.plugin" for point in entry_points(group="pytest11"))
    plugin = () if installed else ("-p", "saga.testing.plugin")  # an environment that is older than the plugin does not know it
    out = run(page, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "--rootdir", str(page), str(page))
    assert f"{tests} passed" in out
    run(page, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "new"), "test_page.py")


def test_the_report_on_the_page_is_what_is_printed(page: Path) -> None:
    (shown,) = blocks("text")
    printed = run(page, "-c", "from test_page import *; print(explore(checkout))").splitlines()
    missing = [line for line in shown.splitlines() if line not in printed]
    assert not missing, "\n".join([*missing, "", *printed])

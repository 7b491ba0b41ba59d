"""docs/TESTING.md is what it says: one file of tests that pass, as strict as this package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "TESTING.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    code = "\n\n".join(blocks)
    tests = len(re.findall(r"^def test_", code, re.MULTILINE))
    assert tests >= 5, "the page has hardly any tests left"
    (tmp_path / "test_page.py").write_text(code, encoding="utf-8")
    pytest = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(pytest, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{tests} passed" in done.stdout
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "new"), "test_page.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout

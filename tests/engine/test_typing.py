"""mypy --strict accepts a saga as users write it, and rejects each typical mistake on its line."""

from __future__ import annotations

import importlib
from pathlib import Path

from mypy import api

HERE = Path(__file__).parent / "typing"
ROOT = HERE.parents[2]


def mypy(folder: Path, file: Path) -> dict[int, str]:
    """The errors by line. A cache of its own, which the two runs share, keeps the second one short."""
    out, err, _status = api.run(
        [
            "--strict",
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--cache-dir",
            str(folder / "cache"),
            "--no-error-summary",
            "--show-absolute-path",
            str(file),
        ]
    )
    assert not err, err
    lines = [line for line in out.splitlines() if ": error: " in line and line.startswith(str(file))]
    return {int(line.removeprefix(str(file)).split(":")[1]): line.partition(": error: ")[2] for line in reversed(lines)}


def test_s03_mypy_accepts_a_right_saga_and_rejects_each_mistake(tmp_path: Path) -> None:
    importlib.import_module("tests.engine.typing.use")  # what types allow must also run
    right = (HERE / "use.py").read_text(encoding="utf-8")
    file = tmp_path / "use.py"
    file.write_text(right, encoding="utf-8")
    assert mypy(tmp_path, file) == {}, "mypy rejects a saga that is right"

    wrong = (HERE / "mistakes.txt").read_text(encoding="utf-8")
    file.write_text(right + wrong, encoding="utf-8")
    errors = mypy(tmp_path, file)
    first = right.count("\n") + 1
    lines = [number for number, line in enumerate(wrong.splitlines(), first) if line.startswith("# --- ")]
    assert len(lines) > 8
    for begin, end in zip(lines, [*lines[1:], first + wrong.count("\n") + 1], strict=True):
        assert any(begin < line < end for line in errors), (
            f"mypy accepts the mistake {wrong.splitlines()[begin - first]!r}: {errors}"
        )
    assert min(errors) >= first, f"a mistake was reported where there is none: {errors}"

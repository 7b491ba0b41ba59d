"""docs/SEMANTICS.md says which tests hold which rule; it must not say more, or less, than is so."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "SEMANTICS.md"


def test_the_table_of_rules_names_exactly_the_tests_that_there_are() -> None:
    there = {
        (f"S{int(number)}", file.name, name)
        for file in HERE.glob("test_*.py")
        for name, number in re.findall(r"^def (test_s(\d+)_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    told = set()
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| (S\d+) \| .* \| (`test_.*) \|$", line):
            for part in row[2].split("<br>"):
                file, *names = re.findall(r"`([\w.]+)`", part)
                told |= {(row[1], file, name) for name in names}
    assert len(told) > 100
    assert told == there, f"only in the table: {sorted(told - there)}; only in the tests: {sorted(there - told)}"

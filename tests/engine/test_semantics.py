"""docs/SEMANTICS.md says which tests hold which rule; it must not say more, or less, than is so. Its examples are sagas.

After a change of the tests, `python -m tests.engine.test_semantics` writes their names into the table.
"""

from __future__ import annotations

import re
import runpy
from itertools import groupby
from pathlib import Path

import pytest

from tests.pages import Block, blocks_of

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "SEMANTICS.md"
RULES = [f"S{number}" for number in range(1, 33)]
ROW = re.compile(r"\| (S\d+) \| (.*) \| (.*) \|")
EXAMPLES = [block for block in blocks_of("docs/SEMANTICS.md") if block.language == "python"]


def named_tests() -> list[tuple[str, str, str]]:
    """Rule, file and name of each test that names a rule, in the order of the files."""
    return [
        (f"S{int(number)}", file.name, name)
        for file in sorted(HERE.glob("test_*.py"))
        for name, number in re.findall(r"^def (test_s(\d+)_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def test_the_table_of_rules_names_exactly_the_tests_that_there_are() -> None:
    there, told, rules = set(named_tests()), set(), []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if row := ROW.fullmatch(line):
            rules.append(row[1])
            for part in row[3].split("<br>"):
                file, *names = re.findall(r"`([\w.]+)`", part)
                told |= {(row[1], file, name) for name in names}
    assert rules == RULES, "each rule has one row"
    assert {rule for rule, _, _ in told} == set(RULES), "a rule with no test does not hold"
    assert told == there, f"only in the table: {sorted(told - there)}; only in the tests: {sorted(there - told)}"


def test_every_example_that_the_table_links_to_is_there() -> None:
    page = TABLE.read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(#([\w-]+)\)", page))
    titles = {title.lower().replace(" ", "-") for title in re.findall(r"^### (.+)$", page, re.MULTILINE)}
    assert linked == titles
    assert {block.section.lower().replace(" ", "-") for block in EXAMPLES} == titles


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.section)
def test_each_example_is_a_saga(block: Block, tmp_path: Path) -> None:
    before = (HERE / "before_semantics.py").read_text(encoding="utf-8").replace("import START,", "import START, App,")
    file = tmp_path / "example.py"
    file.write_text(before + block.text + "order.check()\ninvoice.check()\n", encoding="utf-8")
    runpy.run_path(str(file), run_name="__main__")


def _write() -> None:
    cells = {
        rule: "<br>".join(
            f"`{file}`: " + ", ".join(f"`{name}`" for _, _, name in names)
            for file, names in groupby((test for test in named_tests() if test[0] == rule), key=lambda test: test[1])
        )
        for rule in RULES
    }
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    new = [f"| {row[1]} | {row[2]} | {cells[row[1]]} |" if (row := ROW.fullmatch(line)) else line for line in lines]
    TABLE.write_text("\n".join(new) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()

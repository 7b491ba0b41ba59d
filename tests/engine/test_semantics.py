"""docs/SEMANTICS.md says what the rules mean, docs/RULES.md which tests hold which; neither may say more, or less, than is so.

The examples are sagas, and the one that turns back because a person says no does so. After a change of the tests,
`python -m tests.engine.test_semantics` writes their names into the table.
"""

from __future__ import annotations

import re
import runpy
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from saga.testing import Bench
from tests.pages import Block, blocks_of

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
MEANINGS, TESTS = DOCS / "SEMANTICS.md", DOCS / "RULES.md"
RULES = [f"S{number}" for number in range(1, 33)]
ROW = re.compile(r"\| (S\d+) \| (.*) \|")
EXAMPLES = [block for block in blocks_of("docs/SEMANTICS.md") if block.language == "python"]


def named_tests() -> list[tuple[str, str, str]]:
    """Rule, file and name of each test that names a rule, in the order of the files."""
    return [
        (f"S{int(number)}", file.name, name)
        for file in sorted(HERE.glob("test_*.py"))
        for name, number in re.findall(r"^def (test_s(\d+)_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def rows(page: Path) -> dict[str, str]:
    """What the page's table says of each rule, in order."""
    return {row[1]: row[2] for line in page.read_text(encoding="utf-8").splitlines() if (row := ROW.fullmatch(line))}


def test_each_rule_has_a_meaning_and_a_row_of_tests() -> None:
    assert list(rows(MEANINGS)) == RULES
    assert list(rows(TESTS)) == RULES


def test_the_table_of_rules_names_exactly_the_tests_that_there_are() -> None:
    there, told = set(named_tests()), set()
    for rule, cell in rows(TESTS).items():
        for part in cell.split("<br>"):
            file, *names = re.findall(r"`([\w.]+)`", part)
            told |= {(rule, file, name) for name in names}
    assert {rule for rule, _, _ in told} == set(RULES), "a rule with no test does not hold"
    assert told == there, f"only in the table: {sorted(told - there)}; only in the tests: {sorted(there - told)}"


def test_every_section_of_examples_has_one_and_says_what_happens_when_it_fails() -> None:
    examples = MEANINGS.read_text(encoding="utf-8").partition("\n## Examples\n")[2].partition("\n## ")[0]
    sections = {part.partition("\n")[0]: part.partition("\n")[2] for part in examples.split("\n### ")[1:]}
    assert [block.section for block in EXAMPLES] == list(sections), "one block each"
    for title, section in sections.items():
        prose = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
        assert re.search(r"\b(fail|refuse|park|raise|turn|undone|undo)", prose), f"{title} does not say what happens when it fails"


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.section)
def test_each_example_is_a_saga(block: Block, tmp_path: Path) -> None:
    run(block, tmp_path)


def run(block: Block, folder: Path) -> dict[str, Any]:
    """What the module defines that begins with `before_semantics` and goes on with this example."""
    before = (HERE / "before_semantics.py").read_text(encoding="utf-8")
    file = folder / "example.py"
    file.write_text(before + block.text + "order.check()\ninvoice.check()\n", encoding="utf-8")
    return runpy.run_path(str(file), run_name="__main__")


def example(section: str, folder: Path) -> dict[str, Any]:
    return run(next(block for block in EXAMPLES if block.section == section), folder)


@pytest.mark.parametrize(("ok", "outcome"), [(True, "completed"), (False, "compensated")])
def test_a_person_who_says_no_turns_the_saga_back(ok: bool, outcome: str, tmp_path: Path) -> None:
    made = example("ask", tmp_path)
    with Bench(made["order"]) as bench:
        order = bench.start(made["OrderPlaced"](order_id="1", lines=[]))
        order.answer("approval", made["Verdict"](ok=ok), role="finance")
        order.expect(outcome)
        assert len(bench.commands(made["Return"])) == (not ok)
        assert len(bench.commands(made["Ship"])) == ok


@pytest.mark.parametrize(("shelf", "outcome"), [("7", "completed"), ("far away", "compensated")])
def test_a_reply_that_will_not_do_turns_the_saga_back(shelf: str, outcome: str, tmp_path: Path) -> None:
    made = example("turning back", tmp_path)
    with Bench(made["order"]) as bench:
        bench.answer(made["Reserve"], made["Reserved"](shelf=shelf))
        order = bench.start(made["OrderPlaced"](order_id="1", lines=["a"]))
        order.expect(outcome)
        undone = [bench.commands(made[name]) for name in ("Release", "Return")]
        assert [len(commands) for commands in undone] == [outcome == "compensated"] * 2


def _write() -> None:
    cells = {
        rule: "<br>".join(
            f"`{file}`: " + ", ".join(f"`{name}`" for _, _, name in names)
            for file, names in groupby((test for test in named_tests() if test[0] == rule), key=lambda test: test[1])
        )
        for rule in RULES
    }
    lines = TESTS.read_text(encoding="utf-8").splitlines()
    new = [f"| {row[1]} | {cells[row[1]]} |" if (row := ROW.fullmatch(line)) else line for line in lines]
    TESTS.write_text("\n".join(new) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()

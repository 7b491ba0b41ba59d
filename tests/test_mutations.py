"""The mistakes that `python -m tests.mutations` plants can still be planted, and are still found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, ROOT, Mutation, all_pass, applied, copied, found


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_each_mistake_can_be_made_in_the_code_as_it_is(mutation: Mutation) -> None:
    code = (ROOT / "saga" / "engine" / mutation.file).read_text(encoding="utf-8")
    compile(applied(mutation, code), mutation.file, "exec")
    file, _, name = mutation.test.partition("::")
    there = (ROOT / "tests" / "engine" / file).read_text(encoding="utf-8")
    assert f"def {name.partition('[')[0]}(" in there, f"{mutation.rule}: there is no test {mutation.test}"


def test_a_mistake_that_cannot_be_made_is_told() -> None:
    with pytest.raises(LookupError, match=r"stands 0 times in saga/engine/take\.py, not once"):
        applied(MUTATIONS[0]._replace(file="take.py", old="no such line"), "another line")


def test_at_least_fifteen_rules_have_one() -> None:
    assert len({mutation.rule.partition(":")[0] for mutation in MUTATIONS}) >= 15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_mistake_is_found(tmp_path: Path) -> None:
    copied(tmp_path)
    assert all_pass(tmp_path), "the tests that are named fail without any mistake"
    assert [mutation.rule for mutation in MUTATIONS if not found(mutation, tmp_path)] == []

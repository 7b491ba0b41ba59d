"""Plants mistakes in the code of the rules, one at a time, and shows that a named test finds each: `python -m tests.mutations`.

A rule whose test passes whatever the code does is not held by it. Each mistake is a line of the engine deleted or turned round, in a
copy of the code in a temporary folder; the checkout is never touched. If the code has changed so that the line is not there any more,
that is told loudly, since such a mistake would prove nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """In `saga/engine/<file>`, `old` becomes `new`; then `test` (file::name, in tests/engine) must fail."""

    rule: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = [
    Mutation(
        "S1: a best effort that fails changes nothing",
        "settle.py",
        '        if not step.best_effort:\n            turn_back(draft, Cause("unknown", name, why))',
        '        if True:\n            turn_back(draft, Cause("unknown", name, why))',
        "test_conditions.py::test_s01_a_best_effort_that_fails_changes_nothing",
    ),
    Mutation(
        "S1: nothing that is never undone begins while another path may fail",
        "graph.py",
        "            self._check_all_settled_before(self.steps[name])",
        "            pass",
        "test_conditions.py::test_s01_what_is_after_a_pivot_does_not_begin_while_another_path_may_still_fail",
    ),
    Mutation(
        "S4: a remedy buys one more time, not many",
        "waits.py",
        "last = state.ask_round > 0 or",
        "last = state.ask_round > 5 or",
        "test_waits.py::test_s04_with_a_remedy_there_is_one_more_such_time",
    ),
    Mutation(
        "S5: an instance goes on with its own version",
        "book.py",
        "return self._versions.get((saga, version)) or self.sagas.get(saga) if version is not None else self.sagas.get(saga)",
        "return self.sagas.get(saga)",
        "test_children.py::test_s05_old_instances_go_on_with_their_version_and_new_ones_begin_with_the_newest",
    ),
    Mutation(
        "S7: early events are applied in the order in which they came",
        "waits.py",
        "    early.append(item)\n",
        "    early.insert(0, item)\n",
        "test_waits.py::test_s07_events_before_the_start_are_applied_in_the_order_in_which_they_came",
    ),
    Mutation(
        "S7: what nobody starts becomes dead letters",
        "decide.py",
        'draft.outputs += [DeadLetter("never-started", detail, given=item) for item in early.early]',
        "pass",
        "test_waits.py::test_s07_what_nobody_starts_goes_to_the_dead_letters_after_a_while",
    ),
    Mutation(
        "S11: a repeat is known in the next run under the same key too",
        "apply.py",
        "state.seen[-SEEN_BEFORE:] if state is not None else []",
        "[]",
        "test_waits.py::test_s11_an_event_that_is_repeated_after_the_saga_began_anew_is_a_duplicate",
    ),
    Mutation(
        "S15: a contradiction parks",
        "replies.py",
        "    if told_no and not believe:\n",
        "    if False:\n",
        "test_maps.py::test_s17_done_after_a_refused_iteration_is_a_contradiction",
    ),
    Mutation(
        "S17: so many at once, forward",
        "advance.py",
        "        if under_way >= step.at_once:\n            break",
        "        if False:\n            break",
        "test_maps.py::test_s17_so_many_are_on_their_way_at_once_and_no_more",
    ),
    Mutation(
        "S17: so many at once, back",
        "advance.py",
        "    most = step.at_once if isinstance(step, Mapped) else 1",
        "    most = 1000",
        "test_maps.py::test_s17_so_many_are_compensated_at_once_and_no_more",
    ),
    Mutation(
        "S17: each iteration is undone with its own input",
        "draft.py",
        'item = self.state.steps[step.name].sent[int(name.partition("/")[2])]',
        "item = self.state.steps[step.name].sent[0]",
        "test_maps.py::test_s17_only_the_iterations_that_ran_are_compensated_each_with_its_own_input",
    ),
    Mutation(
        "S18: a skipped step is not begun",
        "advance.py",
        "    if not draft.wanted(step):",
        "    if False:",
        "test_conditions.py::test_s18_a_step_runs_only_if_its_condition_holds_and_is_asked_once",
    ),
    Mutation(
        "S19: after the pivot a missed wait parks",
        "settle.py",
        "    if name in draft.saga.graph.after_pivot and not draft.step(name).best_effort:",
        "    if False:",
        "test_waits.py::test_s19_after_the_pivot_a_wait_that_is_missed_parks",
    ),
    Mutation(
        "S20: a cancel after the pivot is refused",
        "settle.py",
        "        return True\n    after = ",
        "        return False\n    after = ",
        "test_actions.py::test_s20_a_cancel_after_the_pivot_is_refused_with_the_reason",
    ),
    Mutation(
        "S21: while the pivot is out, a cancel only ends its attempts",
        "actions.py",
        "    if pivot_is_out(draft):\n        if any",
        "    if False:\n        if any",
        "test_actions.py::test_s21_a_cancel_while_the_pivot_is_out_waits_for_its_outcome",
    ),
    Mutation(
        "S22: in reverse order",
        "advance.py",
        "        if all(cleared[other] for other in graph.next[name]):",
        "        if True:",
        "test_maps.py::test_s22_two_maps_are_undone_the_later_first",
    ),
    Mutation(
        "S23: a cancel does not stop a compensation",
        "actions.py",
        '        raise Refused("it compensates already")',
        "        state.steps.clear()",
        "test_actions.py::test_s23_a_cancel_does_not_stop_a_compensation",
    ),
    Mutation(
        "S26: a timer does not fire early",
        "take.py",
        '    if draft.now < due:\n        raise Ignored("early")\n    if step.status',
        "    if step.status",
        "test_waits.py::test_s26_a_pause_ends_at_its_time_and_not_before",
    ),
    Mutation(
        "S28: a child is kept until its parent ends",
        "family.py",
        "        return  # `released` will say until when it is remembered",
        "        pass",
        "test_children.py::test_s28_a_child_is_kept_until_its_parent_ends_and_then_released",
    ),
    Mutation(
        "S28: to be undone twice is to be undone once",
        "family.py",
        '        raise Ignored("duplicate", "it is being undone, or was")',
        "        pass",
        "test_children.py::test_s28_to_be_undone_twice_is_to_be_undone_once",
    ),
    Mutation(
        "S28: the second run names the commands that it undoes",
        "draft.py",
        "command_id(self.state.undoes or self.state.id, name",
        "command_id(self.state.id, name",
        "test_children.py::test_s28_a_completed_child_is_undone_by_a_second_run_with_its_own_outcome",
    ),
    Mutation(
        "S29: what is kept stays when an action is refused",
        "operate.py",
        '        except Refused as refused:\n            return draft, "operator-refused", str(refused)',
        '        except Refused as refused:\n            state.kept = []\n            return draft, "operator-refused", str(refused)',
        "test_actions.py::test_s30_what_is_refused_leaves_kept_inputs_where_they_are",
    ),
    Mutation(
        "S30: only the role that was asked may answer",
        "actions.py",
        "            if step.role and role not in (roles := step.may_answer(draft.state.steps[step.name])):",
        "            if step.role and role not in (roles := (*step.may_answer(draft.state.steps[step.name]), role)):",
        "test_waits.py::test_s30_a_question_is_answered_by_the_role_that_was_asked",
    ),
    Mutation(
        "S32: each run has its own number of decisions",
        "draft.py",
        '"limit": old.seq + 1 + MAX_DECISIONS',
        '"limit": MAX_DECISIONS',
        "test_schedules.py::test_s32_a_schedule_goes_on_after_more_slots_than_an_instance_may_have_decisions",
    ),
    Mutation(
        "S17, by the random walks: a retry keeps the limit",
        "actions.py",
        "        elif isinstance(draft.step(name), Mapped):\n            draft.set(name, waits=Waits.NOTHING)",
        "        elif False:\n            draft.set(name, waits=Waits.NOTHING)",
        "test_walk.py::test_with_conforming_participants_every_effect_is_done_once_or_undone[1006]",
    ),
]


def applied(mutation: Mutation, code: str) -> str:
    """The code with the mistake. Raises LookupError if it is not there to be made, once."""
    if (count := code.count(mutation.old)) != 1:
        what = f"{mutation.rule}: what is to be changed stands {count} times in saga/engine/{mutation.file}, not once"
        raise LookupError(f"{what}; write the mutation anew:\n{mutation.old}")
    return code.replace(mutation.old, mutation.new)


def copied(folder: Path) -> None:
    """What the engine's tests need."""
    for name in ("saga", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)


def found(mutation: Mutation, folder: Path) -> bool:
    """Does the named test find the mistake in this copy? (It passes without it: see `all_pass`.)"""
    file = folder / "saga" / "engine" / mutation.file
    right = file.read_text(encoding="utf-8")
    wrong = applied(mutation, right)
    file.write_text(wrong, encoding="utf-8")
    try:
        return not _pass([mutation.test], folder)
    finally:
        file.write_text(right, encoding="utf-8")


def all_pass(folder: Path) -> bool:
    """Do the named tests pass without any mistake? Else they would show nothing."""
    return _pass(sorted({mutation.test for mutation in MUTATIONS}), folder)


def _pass(tests: list[str], folder: Path) -> bool:
    names = [f"tests/engine/{test}" for test in tests]
    line = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *names]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode not in (0, 1):  # no such test, or it could not begin
        raise LookupError(f"{', '.join(tests)} did not run: {done.stdout}{done.stderr}")
    return done.returncode == 0


def main() -> int:
    survived = []
    with tempfile.TemporaryDirectory(prefix="saga-mutations-") as name:
        copied(Path(name))
        assert all_pass(Path(name)), "the tests that are named fail without any mistake"
        for number, mutation in enumerate(MUTATIONS, 1):
            ok = found(mutation, Path(name))
            print(f"{number:2} of {len(MUTATIONS)}  {'found' if ok else 'NOT FOUND'}  {mutation.rule}", flush=True)
            survived += [] if ok else [mutation.rule]
    print(f"{len(MUTATIONS) - len(survived)} of {len(MUTATIONS)} mistakes were found")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())

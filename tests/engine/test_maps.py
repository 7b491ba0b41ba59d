"""S17, and what the other rules mean for a mapped step: each iteration is a step of its own, with its own command id and its own input."""

from __future__ import annotations

import pytest

from saga.engine.policy import MAX_ITEMS
from tests.engine.kit import Made, Part, Run, make, started


def begun(made: Made) -> Run:
    run = Run(made.saga)
    run.start()
    return run


def settle_all(run: Run, count: int, step: str = "m", outcome: str = "done", action: str = "execute") -> None:
    for index in range(count):
        run.reply(f"{step}/{index}", outcome, action)


def test_s17_so_many_are_on_their_way_at_once_and_no_more() -> None:
    run = started({"m": Part(items=5, at_once=2), "z": Part(after=("m",))})
    assert run.led == ["started", "execute m/0#1", "execute m/1#1"]
    assert run.reply("m/1") == ["execute m/2#1"]
    assert run.reply("m/0") == ["execute m/3#1"]
    assert run.reply("m/2") == ["execute m/4#1"]
    assert run.reply("m/4") == []
    assert run.status("m") == "executing", "S17: a mapped step is done before all of its items are"
    assert run.reply("m/3") == ["execute z#1"]
    assert run.status("m") == "done"


def test_s17_items_are_evaluated_once_and_recorded() -> None:
    made = make({"m": Part(items=3, at_once=1)})
    run = begun(made)
    made.items["m"] = ["another", "list"]
    assert run.instance.steps["m"].sent == ["m0", "m1", "m2"]
    settle_all(run, 3)
    assert made.asked == ["m"], "S17: items were evaluated more than once"
    assert [send.data["text"] for send in run.sends()] == ["m0", "m1", "m2"]
    assert (run.outcome, run.log) == ("completed", ["m0", "m1", "m2"])


def test_s17_an_items_identity_is_its_index_so_equal_items_are_two() -> None:
    made = make({"m": Part(items=2)})
    made.items["m"] = ["same", "same"]
    run = begun(made)
    ids = [send.command.split(":")[3] for send in run.sends()]
    assert ids == ["m/0", "m/1"]
    assert run.reply("m/1") == []
    assert run.reply("m/0") == ["completed"]
    assert run.log == ["same", "same"]


def test_s17_a_reply_settles_the_iteration_that_it_echoes_and_no_other() -> None:
    run = started({"m": Part(items=2)})
    run.reply("m/1")
    assert (run.status("m/0"), run.status("m/1")) == ("executing", "done")
    for wrong in ("m/2", "m", "m/01", "m/x", "m/"):
        assert run.reply("m/0", attributes={"sagacommand": f"{run.instance.id}:{wrong}:execute"}) == []
        assert run.note == "unmatched", f"S10: a reply to {wrong!r} counted"


def test_s17_an_empty_list_is_done_at_once() -> None:
    run = started({"a": Part(), "m": Part(after=("a",), items=0), "z": Part(after=("m",))})
    assert run.reply("a") == ["execute z#1"]
    assert run.status("m") == "done"
    assert run.reply("z", "refused") == ["compensate a#1"]


def test_s17_only_the_iterations_that_ran_are_compensated_each_with_its_own_input() -> None:
    run = started({"m": Part(items=6, at_once=2), "z": Part(after=("m",))})
    run.reply("m/0")
    run.reply("m/1", "refused")
    assert run.reply("m/2") == ["compensate m/0#1", "compensate m/2#1"], "S17: another iteration than those that ran is undone"
    undone = run.sends()[-2:]
    assert [send.data["text"] for send in undone] == ["m0", "m2"]
    assert [send.subject for send in undone] == [f"{run.instance.id}:m/{index}:execute" for index in (0, 2)]
    run.reply("m/2", action="compensate")
    assert run.reply("m/0", action="compensate") == ["compensated"]
    assert not any("m/3" in led for led in run.led), "S16: an iteration was begun after another had been refused"


def test_s17_so_many_are_compensated_at_once_and_no_more() -> None:
    run = started({"a": Part(), "m": Part(after=("a",), items=4, at_once=2), "z": Part(after=("m",))})
    run.reply("a")
    settle_all(run, 4)
    assert run.reply("z", "refused") == ["compensate m/0#1", "compensate m/1#1"]
    assert run.reply("m/1", action="compensate") == ["compensate m/2#1"]
    assert run.reply("m/0", action="compensate") == ["compensate m/3#1"]
    assert run.reply("m/2", action="compensate") == []
    assert run.reply("m/3", action="compensate") == ["compensate a#1"], "S22: before the last item was undone, or not at all"


def test_s17_an_iteration_that_waits_for_an_operator_keeps_no_other_from_its_turn() -> None:
    run = started({"m": Part(items=3, at_once=1, unknown="park", attempts=1)})
    assert run.timer() == ["execute m/1#1"]
    assert run.reply("m/1") == ["execute m/2#1"]
    assert run.reply("m/2") == ["parked"]
    assert run.retry() == ["execute m/0#2", "resumed"]
    assert run.reply("m/0") == ["completed"]


def test_s17_a_retry_sends_no_more_at_once_than_may_be() -> None:
    run = started({"m": Part(items=3, at_once=1, unknown="park", attempts=1)})
    while not run.parked:
        run.timer()
    assert run.retry() == ["execute m/0#2", "resumed"], "S17: a retry sent them all together"
    assert run.reply("m/0") == ["execute m/1#2"]
    assert run.operate("cancel") == []
    assert run.reply("m/1") == ["parked"], "what waits for an operator still does, though a retry had let it be tried"
    assert run.retry() == ["compensate m/0#1", "resumed"]


def test_s17_a_retry_of_compensations_sends_no_more_at_once_than_may_be() -> None:
    run = started({"m": Part(items=3, at_once=1), "z": Part(after=("m",))})
    settle_all(run, 3)
    run.reply("z", "refused")
    settle_all(run, 3, "m", "refused", "compensate")
    assert run.retry() == ["compensate m/0~2#1", "resumed"]
    assert run.reply("m/0", action="compensate") == ["compensate m/1~2#1"]


def test_s17_a_compensation_that_is_stuck_keeps_no_other_from_its_turn() -> None:
    run = started({"m": Part(items=3, at_once=1), "z": Part(after=("m",))})
    settle_all(run, 3)
    run.reply("z", "refused")
    assert run.reply("m/0", "refused", "compensate") == ["compensate m/1#1"], "S24: the other items are never undone"
    assert run.reply("m/1", action="compensate") == ["compensate m/2#1"]
    assert run.reply("m/2", action="compensate") == ["parked"]
    assert run.instance.parked is not None
    assert run.instance.parked.step == "m/0"
    assert run.retry() == ["compensate m/0~2#1", "resumed"]
    assert run.reply("m/0", action="compensate") == ["compensated"]


def test_s17_each_iteration_has_its_own_attempts_and_time_outs() -> None:
    run = started({"m": Part(items=2, attempts=2)})
    run.reply("m/0", "failed")
    assert run.timer() == ["execute m/0#2"], "S13: the pause of one iteration is over first"
    run.reply("m/0")
    assert run.timer() == []
    assert (run.note, run.instance.steps["m/1"].attempt) == ("timed-out", 1)
    assert run.timer() == ["execute m/1#2"]
    assert run.reply("m/1") == ["completed"]


def test_s17_an_unknown_iteration_is_verified_by_itself_and_with_its_own_subject() -> None:
    run = started({"m": Part(items=2, attempts=1, verify=True)})
    run.reply("m/0")
    assert run.timer() == ["verify m/1#1"]
    assert run.sends()[-1].subject == f"{run.instance.id}:m/1:execute"
    assert run.reply("m/1", action="verify") == ["completed"]
    assert run.log == ["m0", "m1"]


def test_s17_a_late_done_of_an_iteration_is_noted_and_undone() -> None:
    run = started({"m": Part(items=2, attempts=1)})
    run.reply("m/0", "refused")
    assert run.timer() == ["compensate m/1#1"]
    assert run.reply("m/1") == [], "S15: a late success of an iteration was taken for something else"
    assert run.instance.steps["m/1"].succeeded
    assert run.reply("m/1", "nothing", "compensate") == ["parked"]
    assert run.parked == "compensation"


def test_s17_done_after_a_refused_iteration_is_a_contradiction() -> None:
    run = started({"m": Part(items=2)})
    run.reply("m/0", "refused")
    assert run.reply("m/0") == ["parked"]
    assert run.instance.parked is not None
    assert (run.parked, run.instance.parked.step) == ("contradiction", "m/0")
    assert run.operate("skip") == ["deadletter contradiction", "resumed"]


def test_s17_more_items_than_possible_park_and_say_so() -> None:
    made = make({"m": Part(items=MAX_ITEMS + 1)})
    run = begun(made)
    assert run.parked == "too-large"
    assert run.instance.parked is not None
    assert f"at most {MAX_ITEMS}" in run.instance.parked.detail
    made.items["m"] = ["one"]
    assert run.retry() == ["execute m/0#1", "resumed"]


def test_s17_a_best_effort_map_goes_on_whatever_its_items_come_to() -> None:
    run = started({"m": Part(items=3, best_effort=True, attempts=1), "z": Part(after=("m",))})
    run.reply("m/0", "refused")
    run.reply("m/1")
    assert run.timer() == ["execute z#1"]
    assert run.reply("z", "refused") == ["compensate m/1#1", "compensate m/2#1"], "what was done, or may have been, is undone too"


def test_s17_after_the_pivot_each_iteration_is_tried_until_it_succeeds() -> None:
    run = started({"p": Part(pivot=True), "m": Part(after=("p",), items=2, attempts=1)})
    run.reply("p")
    run.reply("m/0")
    for attempt in range(2, 6):
        run.timer()
        assert run.timer() == [f"execute m/1#{attempt}"]
    assert run.reply("m/1", "refused") == ["parked"]
    assert run.retry() == ["execute m/1~2#1", "resumed"], "S19: the refused iteration alone gets another round"
    assert run.reply("m/1") == ["completed"]


@pytest.mark.parametrize("broken", ["m", "m.done", "m.compensate"])
def test_s17_user_code_of_one_iteration_that_raises_parks_and_goes_on_after_the_fix(broken: str) -> None:
    made = make({"m": Part(items=2, at_once=1), "z": Part(after=("m",))})
    run = begun(made)
    made.broken.add(broken)
    run.reply("m/0")
    if not run.parked:
        run.reply("m/1")
        run.reply("z", "refused")
    assert run.parked == "user-code"
    made.broken.clear()
    assert "resumed" in run.retry()
    assert not run.parked


def test_s17_an_operator_skips_one_iteration() -> None:
    run = started({"m": Part(items=2, unknown="park", attempts=1)})
    run.reply("m/0")
    run.timer()
    assert run.operate("skip", step="m/1", result={"note": "by hand"}) == ["completed", "resumed"]
    assert run.log == ["m0", "m1"]


def test_s22_a_map_is_undone_as_a_whole_before_what_came_before_it() -> None:
    run = started({"a": Part(), "m": Part(after=("a",), items=2), "b": Part(after=("a",)), "z": Part(after=("m", "b"))})
    run.reply("a")
    settle_all(run, 2)
    run.reply("b")
    assert run.reply("z", "refused") == ["compensate m/0#1", "compensate m/1#1", "compensate b#1"]
    run.reply("b", action="compensate")
    assert run.reply("m/0", action="compensate") == []
    assert run.reply("m/1", action="compensate") == ["compensate a#1"], "S22: undone before all that came after it was"


def test_s22_two_maps_are_undone_the_later_first() -> None:
    run = started({"m": Part(items=2), "n": Part(after=("m",), items=2), "z": Part(after=("n",))})
    settle_all(run, 2)
    settle_all(run, 2, "n")
    assert run.reply("z", "refused") == ["compensate n/0#1", "compensate n/1#1"]
    run.reply("n/0", action="compensate")
    assert run.reply("n/1", action="compensate") == ["compensate m/0#1", "compensate m/1#1"]


def test_s16_iterations_that_are_on_their_way_settle_before_any_is_undone() -> None:
    run = started({"m": Part(items=3)})
    run.reply("m/0")
    assert run.reply("m/1", "refused") == []
    assert run.reply("m/2") == ["compensate m/0#1", "compensate m/2#1"]


def test_s32_the_items_and_commands_of_a_map_count_as_what_was_sent() -> None:
    made = make({"m": Part(items=3)})
    made.text["m"] = "x" * 200_000
    assert begun(made).parked == "too-large"

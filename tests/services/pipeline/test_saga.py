"""The pipeline's saga on the bench, its services played: every way it can go."""

from __future__ import annotations

import pytest

from saga.testing import Bench, explore
from services.pipeline.saga import pipeline
from topics.pipeline import (
    AnalyseBatch,
    BadRow,
    BatchAnalysed,
    BatchArrived,
    BatchCleaned,
    BatchLoaded,
    BatchSuperseded,
    BatchUnusable,
    CleanBatch,
    CollectPart,
    DropBatch,
    DropPart,
    Figures,
    FindLoad,
    LoadBatch,
    Part,
    PartCollected,
    PartDropped,
    PartUnreadable,
    ReportBatch,
)

BAD = (BadRow(part=0, line=2, reason="bmi: n/a"),)
FIGURES = Figures(rows=32, mean_bmi=26.0, mean_progression=150.0, slope=10.0, intercept=-110.0)
ARRIVED = BatchArrived(batch_id="clinic-1", parts=tuple(Part(number=n, where=f"/{n}.csv.gz") for n in range(3)))
TWO_PARTS = ARRIVED.model_copy(update={"parts": ARRIVED.parts[:2]})


def bench_of_services() -> Bench:
    bench = Bench(pipeline)
    bench.answer(CollectPart, lambda cmd: PartCollected(part=cmd.part.number, rows=11))
    bench.answer(CleanBatch, BatchCleaned(batch_id="clinic-1", kept=32, bad=BAD))
    bench.answer(AnalyseBatch, BatchAnalysed(batch_id="clinic-1", figures=FIGURES))
    bench.answer(LoadBatch, BatchLoaded(batch_id="clinic-1", rows=32, replaced=0))
    bench.answer(DropPart, lambda cmd: PartDropped(part=cmd.part))
    return bench


def test_a_batch_is_collected_cleaned_analysed_loaded_and_reported() -> None:
    with bench_of_services() as bench:
        batch = bench.start(ARRIVED)
        assert batch.outcome == "completed"
        assert batch.data.collected == 33
        assert batch.commands(LoadBatch) == [LoadBatch(batch_id="clinic-1", run=1, figures=FIGURES)]
        assert batch.commands(ReportBatch) == [ReportBatch(batch_id="clinic-1", run=1, loaded=32, bad=BAD)]


def test_a_part_that_nobody_can_read_undoes_the_parts_that_were_collected() -> None:
    def second_is_broken(cmd: CollectPart) -> PartCollected | PartUnreadable:
        if cmd.part.number == 1:
            return PartUnreadable(part=1, reason="it ends in the middle")
        return PartCollected(part=cmd.part.number, rows=11)

    with bench_of_services() as bench:
        bench.answer(CollectPart, second_is_broken)
        batch = bench.start(ARRIVED)
        assert batch.outcome == "compensated"
        assert sorted(cmd.part for cmd in batch.commands(DropPart)) == [0, 2]
        assert not batch.commands(CleanBatch)


def test_a_source_that_is_down_for_a_while_is_tried_again() -> None:
    with bench_of_services() as bench:
        bench.fail(CollectPart, "503", times=8)
        batch = bench.start(ARRIVED)
        bench.settle()
        assert batch.outcome == "completed"
        assert batch.data.collected == 33


def test_a_batch_that_is_mostly_damage_is_undone() -> None:
    with bench_of_services() as bench:
        bench.refuse(CleanBatch, BatchUnusable(batch_id="clinic-1", reason="20 of 33 rows are damaged"))
        batch = bench.start(ARRIVED)
        assert batch.outcome == "compensated"
        assert len(batch.commands(DropPart)) == 3
        assert not batch.commands(DropBatch), "a refusal has no effect, so there is nothing to undo"


def test_an_analysis_that_fails_for_good_waits_and_is_run_again_by_an_operator() -> None:
    with bench_of_services() as bench:
        bench.fail(AnalyseBatch, "a singular matrix", times=5)
        batch = bench.start(ARRIVED)
        bench.settle()
        assert batch.parked == "unknown"
        batch.retry()
        assert batch.outcome == "completed"


def test_a_batch_of_which_a_later_run_is_loaded_is_undone() -> None:
    with bench_of_services() as bench:
        bench.refuse(LoadBatch, BatchSuperseded(batch_id="clinic-1", newer=2))
        batch = bench.start(ARRIVED)
        assert batch.outcome == "compensated"
        assert len(batch.commands(DropPart)) == 3
        assert batch.commands(DropBatch) == [DropBatch(batch_id="clinic-1", run=1)]


def test_a_load_that_nobody_answers_is_asked_after() -> None:
    with bench_of_services() as bench:
        bench.silence(LoadBatch)
        bench.answer(FindLoad, BatchLoaded(batch_id="clinic-1", rows=32, replaced=0))
        batch = bench.start(ARRIVED)
        bench.settle()
        assert batch.outcome == "completed"
        assert len(batch.commands(FindLoad)) == 1


def test_a_run_that_takes_over_the_parts_of_another_fetches_nothing_and_undoes_nothing_of_it() -> None:
    with bench_of_services() as bench:
        again = ARRIVED.model_copy(update={"run": 2, "reuse": 1, "repair": True})
        bench.refuse(LoadBatch, BatchSuperseded(batch_id="clinic-1", newer=3))
        batch = bench.start(again)
        assert batch.steps["collect"] == "skipped"
        assert batch.commands(CleanBatch) == [CleanBatch(batch_id="clinic-1", run=2, collected=1, parts=3, repair=True)]
        assert not batch.commands(CollectPart) + batch.commands(DropPart)
        assert batch.outcome == "compensated"


@pytest.mark.parametrize("event", [TWO_PARTS, TWO_PARTS.model_copy(update={"run": 2, "reuse": 1})], ids=["first run", "run again"])
def test_explore_finds_nothing(event: BatchArrived) -> None:
    explore(
        pipeline,
        start=event,
        replies={
            CleanBatch: BatchCleaned(batch_id="clinic-1", kept=32, bad=BAD),
            AnalyseBatch: BatchAnalysed(batch_id="clinic-1", figures=FIGURES),
        },
        no_effect={AnalyseBatch},
        faults=1,
    ).assert_ok()

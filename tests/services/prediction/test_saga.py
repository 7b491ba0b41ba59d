"""The two sagas on the bench, their services played: every way they can go."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Saga, hours
from saga.testing import Bench, explore
from services.prediction.saga import prediction, review
from topics.prediction import (
    Batch,
    BatchPredicted,
    CheckModel,
    DataPrepared,
    DataUnknown,
    DiscardModel,
    DropData,
    FindRelease,
    ModelAsked,
    ModelChecked,
    ModelPromoted,
    ModelReleased,
    ModelRolledBack,
    ModelTrained,
    ModelWorse,
    PredictBatch,
    PrepareData,
    PromoteModel,
    RecordVerdict,
    RegistryBusy,
    ReleaseModel,
    ReviewAsked,
    RollBackModel,
    TrainModel,
    Verdict,
    VerdictRecorded,
    VerdictUnfit,
)

ASKED = ModelAsked(run_id="r2", samples=100, batches=(Batch(first=400, count=3), Batch(first=403, count=3)))


def doubts_the_last(cmd: PredictBatch) -> BatchPredicted:
    last = cmd.batch.first + cmd.batch.count - 1
    return BatchPredicted(version=cmd.version, predicted=cmd.batch.count, malignant=1, doubtful=(last,))


def bench_of_services() -> Bench:
    bench = Bench(prediction, review)
    bench.answer(PrepareData, DataPrepared(run_id="r2", samples=100, malignant=40))
    bench.answer(TrainModel, ModelTrained(run_id="r2", version="r2-abc", fits=0.9))
    bench.answer(PromoteModel, ModelPromoted(version="r2-abc", previous="r1-abc"))
    bench.answer(CheckModel, ModelChecked(version="r2-abc", score=0.95, before=0.9))
    bench.answer(PredictBatch, doubts_the_last)
    bench.answer(RollBackModel, ModelRolledBack(version="r2-abc", current="r1-abc"))
    bench.answer(RecordVerdict, VerdictRecorded(run_id="r2", changed=1))
    return bench


def test_what_the_model_doubts_is_reviewed_by_a_person_and_nobody_waits_for_it() -> None:
    with bench_of_services() as bench:
        run = bench.start(ASKED)
        assert run.outcome == "completed"
        assert run.data.doubtful == (402, 405)
        doubts = bench.case("r2", review.name)
        assert doubts.state == "running"
        doubts.answer("verdict", Verdict(malignant=(405,)), "pathologist")
        assert doubts.outcome == "completed"
        assert doubts.commands(RecordVerdict) == [
            RecordVerdict(run_id="r2", version="r2-abc", samples=(402, 405), malignant=(405,))
        ]


def test_a_model_without_doubts_asks_nobody() -> None:
    with bench_of_services() as bench:
        bench.answer(PredictBatch, BatchPredicted(version="r2-abc", predicted=3, malignant=1, doubtful=()))
        run = bench.start(ASKED)
        assert run.outcome == "completed"
        assert run.steps["have_reviewed"] == "skipped"
        assert [case.saga for case in bench.cases] == [prediction.name]


def test_a_model_that_is_worse_gives_way_to_the_one_before() -> None:
    with bench_of_services() as bench:
        bench.refuse(CheckModel, ModelWorse(version="r2-abc", score=0.7, before=0.9))
        run = bench.start(ASKED)
        assert run.outcome == "compensated"
        assert run.commands(RollBackModel) == [RollBackModel(version="r2-abc")]
        assert run.commands(DiscardModel) == [DiscardModel(run_id="r2")]
        assert run.commands(DropData) == [DropData(run_id="r2")]
        assert not run.commands(PredictBatch)


def test_a_feature_that_nobody_has_ends_it_at_once() -> None:
    with bench_of_services() as bench:
        bench.refuse(PrepareData, DataUnknown(run_id="r2", reason="'star sign' is not in list"))
        run = bench.start(ASKED)
        assert run.outcome == "compensated"
        assert not run.commands(DropData) + run.commands(TrainModel)


def test_while_another_model_is_on_trial_none_is_promoted() -> None:
    with bench_of_services() as bench:
        bench.refuse(PromoteModel, RegistryBusy(on_trial="r1-abc"))
        run = bench.start(ASKED)
        assert run.outcome == "compensated"
        assert not run.commands(RollBackModel), "a refusal has no effect: the model on trial is another's"


def test_a_release_that_nobody_answers_is_asked_after() -> None:
    with bench_of_services() as bench:
        bench.silence(ReleaseModel)
        bench.answer(FindRelease, ModelReleased(version="r2-abc"))  # it was released, only the answer was lost
        run = bench.start(ASKED)
        bench.advance(hours(1))
        assert len(run.commands(FindRelease)) == 1
        assert run.outcome == "completed"


def test_once_released_predictions_are_tried_until_they_are_made() -> None:
    with bench_of_services() as bench:
        bench.fail(PredictBatch, "the model's file cannot be read", times=20)
        run = bench.start(ASKED)
        bench.advance(hours(1))
        assert run.outcome == "completed"
        assert run.data.predicted == 6
        assert not run.commands(RollBackModel)


def test_when_nobody_answers_the_head_of_the_lab_may_and_then_nobody() -> None:
    with bench_of_services() as bench:
        bench.start(ASKED)
        doubts = bench.case("r2", review.name)
        bench.advance(hours(5))
        doubts.answer("verdict", Verdict(malignant=()), "head_of_lab")
        assert doubts.outcome == "completed"
    with bench_of_services() as bench:
        bench.start(ASKED)
        bench.advance(hours(9))
        assert bench.case("r2", review.name).outcome == "compensated"
        assert not bench.commands(RecordVerdict)


def test_a_verdict_about_what_nobody_asked_is_refused() -> None:
    with bench_of_services() as bench:
        bench.refuse(RecordVerdict, VerdictUnfit(run_id="r2", reason="nobody asked about [7]"))
        bench.start(ASKED)
        doubts = bench.case("r2", review.name)
        doubts.answer("verdict", Verdict(malignant=(7,)), "pathologist")
        assert doubts.outcome == "compensated"


@pytest.mark.parametrize("saga", [prediction, review], ids=lambda saga: saga.name)
def test_explore_finds_nothing(saga: Saga[Any, Any]) -> None:
    explore(
        saga,
        start=ASKED if saga is prediction else ReviewAsked(run_id="r2", version="r2-abc", samples=(402, 405)),
        replies={
            TrainModel: ModelTrained(run_id="r2", version="r2-abc", fits=0.9),
            PromoteModel: ModelPromoted(version="r2-abc", previous="r1-abc"),
            PredictBatch: doubts_the_last,
        }
        if saga is prediction
        else {},
        no_effect={CheckModel} if saga is prediction else (),
        faults=1,
    ).assert_ok()

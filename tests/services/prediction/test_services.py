"""The services at work with real models on real samples; and their audit, which finds what is broken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from saga.testing import Bench
from services.prediction import files
from services.prediction.audit import Books, audit
from services.prediction.demo import DUE, asked, batches, verdict
from services.prediction.predictor import predictor
from services.prediction.registry import TABLES as VERSIONS
from services.prediction.registry import registry, versions
from services.prediction.saga import prediction, review
from services.prediction.samples import BATCH, FIRST
from services.prediction.trainer import trainer
from tests.services.prediction.lab import Lab, lab
from topics.prediction import (
    BatchPredicted,
    CheckModel,
    DataPrepared,
    ModelChecked,
    ModelTrained,
    PredictBatch,
    PrepareData,
    TrainModel,
    Verdict,
)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as it:
        yield it


def off(books: Books) -> list[str]:
    return [line for finding in audit(books, DUE) for line in finding.off]


def test_a_better_model_takes_over_and_a_worse_one_is_rolled_back(at: Lab) -> None:
    assert at.run("first").outcome == "completed"
    assert at.run("better").outcome == "completed"
    worse = at.run("worse")
    assert worse.outcome == "compensated"
    assert "trainer.model-worse.v1" in worse.story()
    assert at.current() == [("first", "released"), ("better", "released"), ("worse", "rolled back")]
    assert not files.model("worse").exists()
    assert files.model("better").exists()


def test_one_model_at_a_time_is_on_trial() -> None:
    with Bench(prediction, review) as bench:
        store = bench.participant(registry, tables=VERSIONS)
        bench.answer(PrepareData, lambda cmd: DataPrepared(run_id=cmd.run_id, samples=100, malignant=40))
        bench.answer(TrainModel, lambda cmd: ModelTrained(run_id=cmd.run_id, version=f"{cmd.run_id}-1", fits=0.9))
        bench.silence(CheckModel, times=1)  # so the first stays on trial for a while
        bench.answer(CheckModel, lambda cmd: ModelChecked(version=cmd.version, score=0.9, before=0.0))
        bench.answer(PredictBatch, lambda cmd: BatchPredicted(version=cmd.version, predicted=1, malignant=0, doubtful=()))
        one, two = (bench.start(model) for model in asked(batches(FIRST + BATCH))[:2])
        assert (one.state, two.outcome) == ("running", "compensated")
        assert "registry.busy.v1" in two.story()
        bench.settle()
        assert one.outcome == "completed"
        with store.read() as connection:
            assert connection.execute(select(versions.c.version, versions.c.state)).all() == [("first-1", "released")]


def test_the_verdict_of_a_person_stands_in_place_of_the_models(at: Lab) -> None:
    at.run("first")
    doubts = at.bench.case("first", review.name)
    assert doubts.data.samples, "this model doubts something, or the test proves nothing"
    assert at.answer("first").outcome == "completed"
    rows = at.ask("predictor", "SELECT sample, malignant, version FROM predictions WHERE reviewed != ''")
    assert {sample for sample, *_ in rows} == set(doubts.data.samples)
    assert {sample for sample, malignant, _ in rows if malignant} == set(verdict(doubts.data.samples).malignant)
    assert {version for *_, version in rows} == {doubts.data.version}


def test_a_verdict_about_other_samples_changes_nothing(at: Lab) -> None:
    at.run("first")
    doubts = at.bench.case("first", review.name)
    doubts.answer("verdict", Verdict(malignant=(1,)), "pathologist")
    assert doubts.outcome == "compensated"
    assert at.ask("predictor", "SELECT sample FROM predictions WHERE reviewed != ''") == []


@pytest.mark.parametrize("seed", range(2))
def test_services_that_crash_on_the_way_predict_each_sample_once(tmp_path: Path, seed: int) -> None:
    with lab(tmp_path, seed=seed) as at:
        for run_id, victim in zip(DUE, (trainer, registry, predictor, None), strict=True):
            at.run(run_id)
            at.bench.crash(victim)
            at.bench.crash()
        for run_id in ("first", "better"):
            at.answer(run_id)
        assert off(at.books()) == []


# --- the audit ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """What a whole story wrote. A test that breaks something takes a copy."""
    with lab(tmp_path_factory.mktemp("prediction")) as at:
        for run_id in DUE:
            at.run(run_id)
        for run_id in ("first", "better"):
            at.answer(run_id)
        yield at.books()


def test_the_audit_of_a_whole_story_finds_nothing(books: Books) -> None:
    assert off(books) == []


def a_worse_model_released(b: Books) -> None:
    b.history[-1] = b.history[-1]._replace(state="released")


def a_model_still_on_trial(b: Books) -> None:
    b.history[-1] = b.history[-1]._replace(state="trial")


def a_promotion_forgotten(b: Books) -> None:
    del b.history[0]


def a_score_that_is_not_the_models(b: Books) -> None:
    outcome, data = b.runs["better"]
    b.runs["better"] = (outcome, data.model_copy(update={"score": 0.99}))


def a_sample_predicted_twice(b: Books) -> None:
    b.predictions.append(b.predictions[0])


def a_sample_forgotten(b: Books) -> None:
    del b.predictions[0]


def a_prediction_changed(b: Books) -> None:
    b.predictions[0] = b.predictions[0]._replace(likely=b.predictions[0].likely / 2 + 0.01)


def a_prediction_of_another_model(b: Books) -> None:
    b.predictions[0] = b.predictions[0]._replace(version="worse-0123456789ab")


def a_prediction_without_model(b: Books) -> None:
    b.predictions[0] = b.predictions[0]._replace(version="")


def a_batch_predicted_by_two_commands(b: Books) -> None:
    b.predictions[0] = b.predictions[0]._replace(command_id="another")


def a_verdict_not_recorded(b: Books) -> None:
    index = next(i for i, row in enumerate(b.predictions) if row.reviewed)
    b.predictions[index] = b.predictions[index]._replace(reviewed="")


def a_verdict_turned_round(b: Books) -> None:
    index = next(i for i, row in enumerate(b.predictions) if row.reviewed)
    b.predictions[index] = b.predictions[index]._replace(malignant=not b.predictions[index].malignant)


def an_outcome_changed_without_a_review(b: Books) -> None:
    index = next(i for i, row in enumerate(b.predictions) if not row.reviewed)
    b.predictions[index] = b.predictions[index]._replace(malignant=not b.predictions[index].malignant)


def a_review_that_never_ended(b: Books) -> None:
    b.reviews["first"] = ("running", b.reviews["first"][1])


def a_review_lost(b: Books) -> None:
    del b.reviews["first"]


def a_model_left(b: Books) -> None:
    b.models.add("worse")


def a_model_gone(b: Books) -> None:
    b.models.remove("better")


def data_left(b: Books) -> None:
    b.prepared.add("impossible")


def a_draft_that_nobody_removed(b: Books) -> None:
    b.models.add(files.model("worse").with_suffix(".joblib.draft").stem)


def a_run_without_outcome(b: Books) -> None:
    b.runs["worse"] = ("parked", b.runs["worse"][1])


BREAKS: list[Callable[[Books], None]] = [
    a_worse_model_released,
    a_model_still_on_trial,
    a_promotion_forgotten,
    a_score_that_is_not_the_models,
    a_draft_that_nobody_removed,
    a_sample_predicted_twice,
    a_sample_forgotten,
    a_prediction_changed,
    a_prediction_of_another_model,
    a_prediction_without_model,
    a_batch_predicted_by_two_commands,
    a_verdict_not_recorded,
    a_verdict_turned_round,
    an_outcome_changed_without_a_review,
    a_review_that_never_ended,
    a_review_lost,
    a_model_left,
    a_model_gone,
    data_left,
    a_run_without_outcome,
]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_the_audit_finds(books: Books, damage: Callable[[Books], None]) -> None:
    broken = copy.deepcopy(books)
    damage(broken)
    assert off(broken)


def test_the_audit_of_nothing_is_off() -> None:
    assert sum(bool(finding.off) for finding in audit(Books({}, {}, [], [], set(), set()), {})) >= 3

"""Prediction with a person in it: a model is trained and goes on trial; if it is worse than the one before, that one comes back.

    START ─▶ prepare ─▶ train ─▶ promote ─▶ check ─▶ release ─▶ predict ─▶ review …   starts   START ─▶ verdict ─▶ record
                                                      pivot    each batch   if in doubt                asked     pivot

While a model is on trial it is the registry's current one, and everything can be undone: the data, the model, and which one is current.
`release` ends the trial. What the released model then doubts is for a pathologist: a review of its own, which may take hours, and for which
this saga does not wait.
"""

from __future__ import annotations

from pydantic import BaseModel

from saga import START, Saga, days, hours, minutes, seconds
from topics.prediction import (
    Batch,
    BatchPredicted,
    CheckModel,
    DiscardModel,
    DropData,
    FindRelease,
    ModelAsked,
    ModelChecked,
    ModelPromoted,
    ModelTrained,
    PredictBatch,
    PrepareData,
    PromoteModel,
    RecordVerdict,
    ReleaseModel,
    ReviewAsked,
    RollBackModel,
    TrainModel,
    Verdict,
)

SOON = seconds(15)  # our own services answer within a second; one that restarts needs a few, on a slow machine more
TRAINING = seconds(60)  # minutes for other models than this one


class Prediction(BaseModel):
    run_id: str
    samples: int
    features: tuple[str, ...]
    batches: tuple[Batch, ...]
    version: str = ""
    previous: str = ""  # the version that was current before
    score: float | None = None  # on the check set
    predicted: int = 0
    doubtful: tuple[int, ...] = ()


class Review(BaseModel):
    run_id: str
    version: str
    samples: tuple[int, ...]
    malignant: tuple[int, ...] = ()


review = Saga("review", version=1, starts_on=ReviewAsked, key=lambda r: r.run_id, data=Review, deadline=days(2))
prediction = Saga("prediction", version=1, starts_on=ModelAsked, key=lambda m: m.run_id, data=Prediction, deadline=minutes(15))


@prediction.start
def begin(asked: ModelAsked) -> Prediction:
    return Prediction.model_validate(asked.model_dump())


@prediction.step(after=START, timeout=SOON)
def prepare(p: Prediction) -> PrepareData:
    return PrepareData(run_id=p.run_id, samples=p.samples, features=p.features)


@prepare.compensate
def drop(_: Prediction, sent: PrepareData) -> DropData:
    return DropData(run_id=sent.run_id)


@prediction.step(after=prepare, timeout=TRAINING)
def train(p: Prediction) -> TrainModel:
    return TrainModel(run_id=p.run_id)


@train.done
def trained(p: Prediction, reply: ModelTrained) -> Prediction:
    return p.model_copy(update={"version": reply.version})


@train.compensate
def discard(_: Prediction, sent: TrainModel) -> DiscardModel:
    return DiscardModel(run_id=sent.run_id)


@prediction.step(after=train, timeout=SOON)
def promote(p: Prediction) -> PromoteModel:
    return PromoteModel(version=p.version)


@promote.done
def promoted(p: Prediction, reply: ModelPromoted) -> Prediction:
    return p.model_copy(update={"previous": reply.previous})


@promote.compensate
def roll_back(_: Prediction, sent: PromoteModel) -> RollBackModel:
    return RollBackModel(version=sent.version)


@prediction.step(after=promote, timeout=SOON, compensation=None)  # it reads only: there is nothing to undo
def check(p: Prediction) -> CheckModel:
    return CheckModel(version=p.version, previous=p.previous)


@check.done
def checked(p: Prediction, reply: ModelChecked) -> Prediction:
    return p.model_copy(update={"score": reply.score})


@prediction.step(after=check, pivot=True, timeout=SOON)  # from here only forward: what it predicts is acted upon
def release(p: Prediction) -> ReleaseModel:
    return ReleaseModel(version=p.version)


@release.verify
def find(_: Prediction, sent: ReleaseModel) -> FindRelease:
    return FindRelease(version=sent.version)


@prediction.each(lambda p: p.batches, after=release, at_once=3, timeout=SOON)
def predict(p: Prediction, batch: Batch) -> PredictBatch:
    return PredictBatch(run_id=p.run_id, version=p.version, batch=batch)


@predict.done
def predicted(p: Prediction, _batch: Batch, reply: BatchPredicted) -> Prediction:
    doubtful = tuple(sorted({*p.doubtful, *reply.doubtful}))
    return p.model_copy(update={"predicted": p.predicted + reply.predicted, "doubtful": doubtful})


@prediction.starts(review, after=predict, when=lambda p: bool(p.doubtful))
def have_reviewed(p: Prediction) -> ReviewAsked:
    return ReviewAsked(run_id=p.run_id, version=p.version, samples=p.doubtful)


@review.start
def review_begins(asked: ReviewAsked) -> Review:
    return Review.model_validate(asked.model_dump())


verdict = review.ask(Verdict, after=START, within=hours(4), role="pathologist", escalate="head_of_lab")


@verdict.done
def judged(r: Review, said: Verdict) -> Review:
    return r.model_copy(update={"malignant": said.malignant})


@review.step(after=verdict, pivot=True, timeout=SOON)  # what a person has said stands
def record(r: Review) -> RecordVerdict:
    return RecordVerdict(run_id=r.run_id, version=r.version, samples=r.samples, malignant=r.malignant)

"""Prediction: a model is trained, promoted, checked, used; and what it doubts is looked at by a person.

A model is named by its version in every message and every row, so that each prediction says which model made it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from saga import Command, Event, Refusal
from topics.values import Text, Value

RunId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]  # it becomes part of file names
Version = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,60}$")]
Sample = Annotated[int, Field(ge=0)]  # a row of the data set
Share = Annotated[float, Field(ge=0, le=1)]


class Batch(Value):
    """Samples that are predicted together: so many from the first on."""

    first: Sample
    count: int = Field(ge=1, le=1000)


class ModelAsked(Event, type="lab.model-asked.v1"):
    """Train a model on so many samples and these features (none: all), and predict these batches with it."""

    run_id: RunId
    samples: int = Field(ge=10, le=1000)
    features: tuple[Text, ...] = ()
    batches: tuple[Batch, ...] = Field(min_length=1, max_length=100)


class DataPrepared(Event, type="preparer.data-prepared.v1"):
    run_id: RunId
    samples: int
    malignant: int


class DataUnknown(Refusal, type="preparer.data-unknown.v1"):
    """A feature that the data does not have."""

    run_id: RunId
    reason: Text


class DataDropped(Event, type="preparer.data-dropped.v1"):
    run_id: RunId


class PrepareData(Command[DataPrepared], service="preparer", refuses=(DataUnknown,)):
    run_id: RunId
    samples: int
    features: tuple[Text, ...]


class DropData(Command[DataDropped], service="preparer"):
    run_id: RunId


class ModelTrained(Event, type="trainer.model-trained.v1"):
    """`version` follows from the run and what the model was trained on. `fits`: the share of its own samples that it gets right."""

    run_id: RunId
    version: Version
    fits: Share


class ModelDiscarded(Event, type="trainer.model-discarded.v1"):
    run_id: RunId


class TrainModel(Command[ModelTrained], service="trainer"):
    run_id: RunId


class DiscardModel(Command[ModelDiscarded], service="trainer"):
    run_id: RunId


class ModelChecked(Event, type="trainer.model-checked.v1"):
    """Balanced accuracy on the check set. `before` is that of the model that was current; 0 if there was none."""

    version: Version
    score: Share
    before: Share


class ModelWorse(Refusal, type="trainer.model-worse.v1"):
    version: Version
    score: Share
    before: Share


class CheckModel(Command[ModelChecked], service="trainer", refuses=(ModelWorse,)):
    version: Version
    previous: str


class ModelPromoted(Event, type="registry.model-promoted.v1"):
    """It is the current one now, on trial. `previous` is the one that was; "" if there was none."""

    version: Version
    previous: str


class RegistryBusy(Refusal, type="registry.busy.v1"):
    """Another model is on trial. Two at once, and nobody could say which one to go back to."""

    on_trial: Version


class ModelRolledBack(Event, type="registry.model-rolled-back.v1"):
    version: Version
    current: str


class PromoteModel(Command[ModelPromoted], service="registry", refuses=(RegistryBusy,)):
    version: Version


class RollBackModel(Command[ModelRolledBack], service="registry"):
    """The model that was current before is current again."""

    version: Version


class ModelReleased(Event, type="registry.model-released.v1"):
    version: Version


class ReleaseModel(Command[ModelReleased], service="registry"):
    """Its trial is over: there is no way back to the one before."""

    version: Version


class FindRelease(Command[ModelReleased], service="registry"):
    version: Version


class BatchPredicted(Event, type="predictor.batch-predicted.v1"):
    """`doubtful` are the samples of which the model is not sure."""

    version: Version
    predicted: int
    malignant: int
    doubtful: tuple[Sample, ...]


class PredictBatch(Command[BatchPredicted], service="predictor"):
    run_id: RunId
    version: Version
    batch: Batch


class ReviewAsked(Event, type="lab.review-asked.v1"):
    run_id: RunId
    version: Version
    samples: tuple[Sample, ...]


class Verdict(Event, type="lab.verdict.v1"):
    """What a pathologist says of the doubtful samples: these are malignant, the others are not."""

    malignant: tuple[Sample, ...]


class VerdictRecorded(Event, type="predictor.verdict-recorded.v1"):
    run_id: RunId
    changed: int


class VerdictUnfit(Refusal, type="predictor.verdict-unfit.v1"):
    """It speaks of samples that were not asked about."""

    run_id: RunId
    reason: Text


class RecordVerdict(Command[VerdictRecorded], service="predictor", refuses=(VerdictUnfit,)):
    run_id: RunId
    version: Version
    samples: tuple[Sample, ...]
    malignant: tuple[Sample, ...]

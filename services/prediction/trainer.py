"""The trainer: trains a model, and checks one against the one before on samples that neither has seen."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import joblib
import numpy as np

from saga import Participant, Refused, Work
from services.prediction import files
from services.prediction.samples import CHECK, samples
from services.stage.files import remove, write_whole
from topics.prediction import (
    CheckModel,
    DiscardModel,
    ModelChecked,
    ModelDiscarded,
    ModelTrained,
    ModelWorse,
    TrainModel,
)

TOLERANCE = 0.005  # a new model may be so much worse: less is chance, on 150 samples

trainer = Participant("trainer")


class Model(NamedTuple):
    """A model as it is kept: which features it wants, and under which version it goes."""

    version: str
    features: tuple[str, ...]
    fitted: Any

    def doubt(self, chosen: slice) -> Any:
        """For each of these samples, how likely it is malignant."""
        given = samples()
        return self.fitted.predict_proba(given.values[chosen][:, given.columns(self.features)])[:, 1]


class Fitted(NamedTuple):
    model: Model
    fits: float


def fit(cmd: TrainModel, _work: Work) -> Fitted:
    """Train on what was prepared. The same data makes the same model, so that it may be done again."""
    from sklearn.linear_model import (
        LogisticRegression,  # here: it takes seconds, and who only sends commands should not wait for it
    )
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with np.load(files.prepared(cmd.run_id)) as data:
        features, values, malignant = tuple(map(str, data["features"])), data["values"], data["malignant"]
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=0)).fit(values, malignant)
    digest = hashlib.sha256(b"|".join([repr(features).encode(), values.tobytes(), malignant.tobytes()])).hexdigest()
    version = f"{cmd.run_id}-{digest[:12]}"
    return Fitted(Model(version, features, fitted), float(fitted.score(values, malignant)))


@trainer.handles(TrainModel, calls=fit)
def train(cmd: TrainModel, _work: Work, fitted: Fitted) -> ModelTrained:
    write_whole(files.model(cmd.run_id), lambda draft: joblib.dump(tuple(fitted.model), draft))
    return ModelTrained(run_id=cmd.run_id, version=fitted.model.version, fits=fitted.fits)


@trainer.handles(DiscardModel)
def discard(cmd: DiscardModel, _work: Work) -> ModelDiscarded:
    remove(files.model(cmd.run_id))
    return ModelDiscarded(run_id=cmd.run_id)


def compare(cmd: CheckModel, _work: Work) -> ModelChecked:
    score = score_of(cmd.version)
    before = score_of(cmd.previous) if cmd.previous else 0.0
    if score < before - TOLERANCE:
        raise Refused(ModelWorse(version=cmd.version, score=score, before=before))
    return ModelChecked(version=cmd.version, score=score, before=before)


@trainer.handles(CheckModel, calls=compare)
def check(_cmd: CheckModel, _work: Work, compared: ModelChecked) -> ModelChecked:
    return compared


def load(version: str) -> Model:
    """The model of this version. Raises ValueError if another is kept under its name."""
    model = Model(*joblib.load(files.model(files.run_of(version))))
    if model.version != version:
        raise ValueError(f"the model of {files.run_of(version)} is {model.version}, not {version}")
    return model


def score_of(version: str) -> float:
    """Balanced accuracy on the check set: the mean of the shares of malignant and of benign samples that it gets right."""
    malignant, said = samples().malignant[CHECK], load(version).doubt(CHECK) >= 0.5
    return float((said[malignant].mean() + (~said[~malignant]).mean()) / 2)

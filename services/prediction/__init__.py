"""Prediction: a model is trained, goes on trial, is used or rolled back; what it doubts is reviewed by a person."""

from __future__ import annotations

from saga import App
from services.prediction.predictor import predictor
from services.prediction.preparer import preparer
from services.prediction.registry import registry
from services.prediction.saga import prediction, review
from services.prediction.trainer import trainer

app = App(sagas=[prediction, review], participants=[preparer, trainer, registry, predictor], begin="earliest", partitions=4)

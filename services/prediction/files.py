"""Where the data of a run and its model are. A file's name follows from the run alone, so that done again is the same again."""

from __future__ import annotations

from pathlib import Path

from services.stage.example import data_folder


def folder() -> Path:
    return data_folder() / "prediction"


def prepared(run_id: str) -> Path:
    """What a model is trained on: the values of the samples, which are malignant, and the features' names."""
    return folder() / "prepared" / f"{run_id}.npz"


def model(run_id: str) -> Path:
    return folder() / "models" / f"{run_id}.joblib"


def run_of(version: str) -> str:
    """A version is its run and twelve digits of what the model was trained on."""
    return version.rpartition("-")[0]

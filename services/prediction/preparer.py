"""The preparer: takes the samples and features that a model is to be trained on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from saga import Participant, Refused, Work
from services.prediction import files
from services.prediction.samples import TRAINING, samples
from services.stage.files import remove, write_whole
from topics.prediction import DataDropped, DataPrepared, DataUnknown, DropData, PrepareData

preparer = Participant("preparer")


class Prepared(NamedTuple):
    features: tuple[str, ...]
    values: Any
    malignant: Any


def choose(cmd: PrepareData, _work: Work) -> Prepared:
    given = samples()
    try:
        columns = given.columns(cmd.features)
    except ValueError as error:
        raise Refused(DataUnknown(run_id=cmd.run_id, reason=str(error)[:200])) from error
    chosen = slice(TRAINING.start, min(TRAINING.start + cmd.samples, TRAINING.stop))
    return Prepared(tuple(given.features[column] for column in columns), given.values[chosen][:, columns], given.malignant[chosen])


@preparer.handles(PrepareData, calls=choose)
def prepare(cmd: PrepareData, _work: Work, chosen: Prepared) -> DataPrepared:
    def write(draft: Any) -> None:
        with draft.open("wb") as file:
            np.savez(file, features=np.array(chosen.features), values=chosen.values, malignant=chosen.malignant)

    write_whole(files.prepared(cmd.run_id), write)
    return DataPrepared(run_id=cmd.run_id, samples=len(chosen.values), malignant=int(chosen.malignant.sum()))


@preparer.handles(DropData)
def drop(cmd: DropData, _work: Work) -> DataDropped:
    remove(files.prepared(cmd.run_id))
    return DataDropped(run_id=cmd.run_id)

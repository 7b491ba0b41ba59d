"""The analyst: means, and how the progression of the disease goes with the body mass index. It reads, and changes nothing."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from saga import Participant, Work
from services.pipeline import files
from topics.pipeline import AnalyseBatch, BatchAnalysed, Figures

analyst = Participant("analyst")


def figure(cmd: AnalyseBatch, _work: Work) -> Figures:
    table = pq.read_table(files.cleaned(cmd.batch_id, cmd.run), columns=["bmi", "progression"])
    bmi, progression = (table.column(name).to_numpy() for name in ("bmi", "progression"))
    slope, intercept = np.polyfit(bmi, progression, 1)
    return Figures(
        rows=len(bmi),
        mean_bmi=float(bmi.mean()),
        mean_progression=float(progression.mean()),
        slope=float(slope),
        intercept=float(intercept),
    )


@analyst.handles(AnalyseBatch, calls=figure)
def analyse(cmd: AnalyseBatch, _work: Work, figures: Figures) -> BatchAnalysed:
    return BatchAnalysed(batch_id=cmd.batch_id, figures=figures)

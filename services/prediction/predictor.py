"""The predictor: says of each sample how likely it is malignant, by which model, and keeps what a person said of those in doubt."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer, MetaData, String, Table, insert, select
from sqlalchemy import update as change

from saga import Participant, Refused, Work
from services.prediction.trainer import load
from topics.prediction import BatchPredicted, PredictBatch, RecordVerdict, VerdictRecorded, VerdictUnfit

DOUBTFUL = (0.2, 0.8)  # between these a person has to look

TABLES = MetaData()

predictions = Table(
    "predictions",
    TABLES,
    Column("run_id", String(40), primary_key=True),
    Column("sample", Integer, primary_key=True),
    Column("version", String(60), nullable=False),
    Column("likely", Float, nullable=False),  # 0 benign … 1 malignant
    Column("doubtful", Boolean, nullable=False),
    Column("malignant", Boolean, nullable=False),  # the outcome: the model's, or if there was a review the person's
    Column("reviewed", String(1000), nullable=False),  # the id of the command that brought the verdict; ""
    Column("command_id", String(1000), nullable=False),
)

predictor = Participant("predictor")


def ask_model(cmd: PredictBatch, _work: Work) -> Any:
    return load(cmd.version).doubt(slice(cmd.batch.first, cmd.batch.first + cmd.batch.count))


@predictor.handles(PredictBatch, calls=ask_model)
def predict(cmd: PredictBatch, work: Work, said: Any) -> BatchPredicted:
    common = {"run_id": cmd.run_id, "version": cmd.version, "reviewed": "", "command_id": work.command_id}
    rows: list[dict[str, Any]] = [
        {**common, "sample": sample, "likely": likely, "doubtful": DOUBTFUL[0] < likely < DOUBTFUL[1], "malignant": likely >= 0.5}
        for sample, likely in enumerate(map(float, said), cmd.batch.first)
    ]
    work.execute(insert(predictions), rows)
    return BatchPredicted(
        version=cmd.version,
        predicted=len(rows),
        malignant=sum(row["malignant"] for row in rows),
        doubtful=tuple(row["sample"] for row in rows if row["doubtful"]),
    )


@predictor.handles(RecordVerdict)
def record(cmd: RecordVerdict, work: Work) -> VerdictRecorded:
    if unasked := sorted(set(cmd.malignant) - set(cmd.samples)):
        raise Refused(VerdictUnfit(run_id=cmd.run_id, reason=f"nobody asked about {unasked}"[:200]))
    asked = (predictions.c.run_id == cmd.run_id) & predictions.c.sample.in_(cmd.samples)
    before = {row.sample: row.malignant for row in work.execute(select(predictions).where(asked))}
    for sample in cmd.samples:
        this = (predictions.c.run_id == cmd.run_id) & (predictions.c.sample == sample)
        work.execute(change(predictions).where(this).values(malignant=sample in cmd.malignant, reviewed=work.command_id))
    return VerdictRecorded(run_id=cmd.run_id, changed=sum(before[sample] != (sample in cmd.malignant) for sample in cmd.samples))

"""The two sagas in a test: their real services on the bench, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from saga import Store
from saga.testing import Bench, Case
from services.prediction.audit import Books, read_books
from services.prediction.demo import asked, batches, verdict
from services.prediction.predictor import TABLES as PREDICTIONS
from services.prediction.predictor import predictor
from services.prediction.preparer import preparer
from services.prediction.registry import TABLES as VERSIONS
from services.prediction.registry import registry
from services.prediction.saga import prediction, review
from services.prediction.samples import BATCH, FIRST
from services.prediction.trainer import trainer
from services.stage.books import ask
from topics.prediction import ModelAsked


class Lab:
    """What a test can do. `stores`: the services' databases; `models`: what the story asks for, by run."""

    def __init__(self, bench: Bench, stores: dict[str, Store]) -> None:
        self.bench = bench
        self.stores = stores
        self.models: dict[str, ModelAsked] = {model.run_id: model for model in asked(batches(FIRST + 2 * BATCH))}

    def run(self, run_id: str) -> Case:
        return self.bench.start(self.models[run_id])

    def answer(self, run_id: str) -> Case:
        """A pathologist answers."""
        case = self.bench.case(run_id, review.name)
        case.answer("verdict", verdict(case.data.samples), "pathologist")
        return case

    def current(self) -> list[tuple[str, str]]:
        """The registry's history: run and state."""
        rows = self.ask("registry", "SELECT version, state FROM versions ORDER BY id")
        return [(version.rpartition("-")[0], state) for version, state in rows]

    def books(self) -> Books:
        cases = self.bench.cases
        runs, reviews = ([(case.state, case.data) for case in cases if case.saga == saga.name] for saga in (prediction, review))
        return read_books(runs, reviews, self.ask)

    def ask(self, service: str, query: str) -> list[Any]:
        if service not in self.stores:
            return ask(service, query)
        with self.stores[service].read() as connection:
            return [tuple(row) for row in connection.execute(text(query))]


@contextmanager
def lab(folder: Path, *, seed: int | None = None) -> Iterator[Lab]:
    """Both sagas with their services, whose files are in this folder."""
    with pytest.MonkeyPatch.context() as patch, Bench(prediction, review, seed=seed) as bench:
        patch.setenv("EXAMPLE_DATA", str(folder))
        stores = {
            "preparer": bench.participant(preparer),
            "trainer": bench.participant(trainer),
            "registry": bench.participant(registry, tables=VERSIONS),
            "predictor": bench.participant(predictor, tables=PREDICTIONS),
        }
        yield Lab(bench, stores)

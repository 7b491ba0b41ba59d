"""The audit of the predictions: every number is computed again from the data set and the kept models, and compared with the books.

It trusts neither the services nor the saga: scores by scikit-learn's own metric, predictions by asking each model once more, the
registry's history against what those scores want.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from services.prediction import files
from services.prediction.saga import Prediction, Review
from services.prediction.samples import CHECK, samples
from services.prediction.trainer import TOLERANCE, load
from services.stage.books import Ask, ask
from services.stage.findings import Finding, counted

COMPLETED, COMPENSATED = "completed", "compensated"


class Promoted(NamedTuple):
    """A line of the registry's history."""

    version: str
    previous: str
    state: str


class Predicted(NamedTuple):
    """A line of the predictor's book."""

    run_id: str
    sample: int
    version: str
    likely: float
    doubtful: bool
    malignant: bool
    reviewed: str
    command_id: str


@dataclass
class Books:
    """All that was written, as it is now."""

    runs: dict[str, tuple[str, Prediction]]  # outcome and data
    reviews: dict[str, tuple[str, Review]]
    history: list[Promoted]
    predictions: list[Predicted]
    prepared: set[str]  # the runs whose data is there; of a file that is none, its name
    models: set[str]  # the runs whose model is there; the same


def read_books(runs: Iterable[tuple[str, Prediction]], reviews: Iterable[tuple[str, Review]], ask: Ask = ask) -> Books:
    """Read all books. `runs` and `reviews`: outcome and data of each instance, from the journal."""
    columns = ", ".join(Predicted._fields)
    return Books(
        runs={data.run_id: (outcome, data) for outcome, data in runs},
        reviews={data.run_id: (outcome, data) for outcome, data in reviews},
        history=[Promoted(*row) for row in ask("registry", "SELECT version, previous, state FROM versions ORDER BY id")],
        predictions=[Predicted(*row) for row in ask("predictor", f"SELECT {columns} FROM predictions")],
        prepared={path.stem for path in (files.folder() / "prepared").glob("*")},
        models={path.stem for path in (files.folder() / "models").glob("*")},
    )


def audit(books: Books, due: dict[str, str]) -> list[Finding]:
    """Every check. `due`: by run, the outcome that it must have."""
    return [
        _outcomes(books, due),
        _registry(books),
        _predicted(books),
        _versions(books),
        _reviewed(books),
        _nothing_left(books),
    ]


def _outcomes(books: Books, due: dict[str, str]) -> Finding:
    found = {run_id: outcome for run_id, (outcome, _) in books.runs.items()}
    off = [
        f"{run_id}: {found.get(run_id, 'the journal does not know it')}, should be {due.get(run_id, 'unknown')}"
        for run_id in sorted(due.keys() | found.keys())
        if found.get(run_id) != due.get(run_id)
    ]
    off += [f"the review of {run_id} is {outcome}" for run_id, (outcome, _) in books.reviews.items() if outcome != COMPLETED]
    count = Counter(found.values())
    if not count[COMPLETED] or not count[COMPENSATED] or not books.reviews:
        off.append("none was completed, none compensated, or none reviewed: this proves nothing")
    numbers = f"{count[COMPLETED]} completed, {count[COMPENSATED]} compensated; {counted(len(books.reviews), 'review')}"
    return Finding(f"{counted(len(found), 'model')} asked for: {numbers}", off)


def _registry(books: Books) -> Finding:
    """Each promotion names the model that was current, and was taken back if and only if that one is better."""
    off, current, scores = [], "", dict.fromkeys([""], 0.0)
    for version, previous, state in books.history:
        if previous != current:
            off.append(f"{version} names {previous or 'none'} as the one before, but {current or 'none'} was current")
        outcome, data = books.runs.get(files.run_of(version), ("unknown", None))
        want = "released" if outcome == COMPLETED else "rolled back"
        if state != want:
            off.append(f"{version} is {state}, but its run is {outcome}")
        if state == "released" and files.run_of(version) not in books.models:
            off.append(f"{version} is released, but its model is gone")
            current, scores[version] = version, 0.0
        elif state == "released":
            scores[version] = _score(version)
            if scores[version] < scores[current] - TOLERANCE:
                off.append(f"{version} was released with {scores[version]:.3f}, though {current} has {scores[current]:.3f}")
            if data is None or data.score is None or abs(data.score - scores[version]) > 1e-9:
                off.append(f"{version} scores {scores[version]:.3f}, the journal says {data and data.score}")
            current = version
    back = sum(row.state == "rolled back" for row in books.history)
    if not current or not back:
        off.append("no model is current, or none was rolled back: this proves nothing")
    numbers = f"{counted(len(books.history), 'model')} promoted, {back} rolled back"
    return Finding(f"{numbers}; current is {current}, which scores {scores[current]:.3f}", off)


def _score(version: str) -> float:
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(samples().malignant[CHECK], load(version).doubt(CHECK) >= 0.5))


def _predicted(books: Books) -> Finding:
    """Each sample of each batch of a completed run was predicted, once, as its model predicts it."""
    due: dict[tuple[str, int], float] = {}
    for run_id, (outcome, data) in books.runs.items():
        for batch in data.batches if outcome == COMPLETED and run_id in books.models else ():
            said = load(data.version).doubt(slice(batch.first, batch.first + batch.count))
            due.update({(run_id, sample): float(likely) for sample, likely in enumerate(said, batch.first)})
    count = Counter((row.run_id, row.sample) for row in books.predictions)
    off = [
        f"sample {sample} of {run_id} was predicted {count[run_id, sample]} times"
        for run_id, sample in sorted(due.keys() | count.keys())
        if count[run_id, sample] != ((run_id, sample) in due)
    ]
    off += [
        f"sample {row.sample} of {row.run_id}: {row.likely}, but its model says {likely}"
        for row in books.predictions
        if (likely := due.get((row.run_id, row.sample))) is not None and abs(row.likely - likely) > 1e-9
    ]
    batches = sum(len(data.batches) for outcome, data in books.runs.values() if outcome == COMPLETED)
    commands = len({row.command_id for row in books.predictions})
    if commands != batches or not due:
        off.append(f"{commands} commands predicted {batches} batches")
    numbers = f"{counted(len(books.predictions), 'prediction')} in {counted(batches, 'batch', 'batches')}"
    return Finding(f"{numbers}, each once, as its model makes them again", off)


def _versions(books: Books) -> Finding:
    """Which model it was stands in every outcome: prediction, run and review."""
    by_run = {run_id: data.version for run_id, (_, data) in books.runs.items()}
    off = [
        f"sample {row.sample} of {row.run_id} says {row.version or 'nothing'}"
        for row in books.predictions
        if not row.version or row.version != by_run.get(row.run_id)
    ]
    off += [
        f"the review of {run_id} says {data.version}"
        for run_id, (_, data) in books.reviews.items()
        if data.version != by_run.get(run_id)
    ]
    versions = {row.version for row in books.predictions}
    released = {row.version for row in books.history if row.state == "released"}
    off += [f"{version} predicted, but was not released" for version in sorted(versions - released)]
    return Finding(f"each outcome names its model: {', '.join(sorted(versions)) or 'none'}", off)


def _reviewed(books: Books) -> Finding:
    """What a model doubted a person has seen, once; the outcome is the person's. Of all else it is the model's."""
    off, verdicts = [], {run_id: data for run_id, (_, data) in books.reviews.items()}
    for row in books.predictions:
        review = verdicts.get(row.run_id)
        seen = review is not None and row.sample in review.samples
        outcome = row.sample in review.malignant if review is not None and seen else row.likely >= 0.5
        if bool(row.doubtful) != seen or bool(row.reviewed) != seen or bool(row.malignant) != outcome:
            off.append(f"sample {row.sample} of {row.run_id}, likely {row.likely:.2f}: {row.malignant=}, {row.reviewed=}")
        elif seen and outcome != bool(samples().malignant[row.sample]):
            off.append(f"sample {row.sample} of {row.run_id}: a pathologist would have said otherwise")
    count = Counter(command for row in books.predictions if (command := row.reviewed))
    if len(count) != len(books.reviews):
        off.append(f"{len(count)} verdicts were recorded, of {len(books.reviews)} reviews")
    return Finding(
        f"{counted(count.total(), 'doubtful sample')} in {counted(len(count), 'review')}, each with a pathologist's verdict", off
    )


def _nothing_left(books: Books) -> Finding:
    undone = {run_id for run_id, (outcome, _) in books.runs.items() if outcome == COMPENSATED}
    off = [f"the data of {run_id} is left" for run_id in sorted(books.prepared & undone)]
    off += [f"the model of {run_id} is left" for run_id in sorted(books.models & undone)]
    off += [f"{name} is no file of a run" for name in sorted((books.prepared | books.models) - books.runs.keys())]
    off += [f"the model of {run_id} is gone" for run_id in sorted(books.runs.keys() - undone - books.models)]
    off += [f"{run_id} was undone, but has predictions" for run_id in sorted({row.run_id for row in books.predictions} & undone)]
    off += [f"{run_id} was undone, but is reviewed" for run_id in sorted(books.reviews.keys() & undone)]
    off += [f"{row.version} is still on trial" for row in books.history if row.state == "trial"]
    return Finding(f"{counted(len(undone), 'run')} compensated: no data, model, prediction or review is left of them", off)

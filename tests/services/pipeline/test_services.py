"""The pipeline's services at work on real data, on files, DuckDB and a real server; and its audit, which finds what is broken."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from saga import Refused, Work
from services.pipeline import files
from services.pipeline.audit import Books, audit
from services.pipeline.clinics import HEADING, MOST_BATCHES, deliveries, patients
from services.pipeline.collector import collector, drop, fetch, stage
from services.pipeline.warehouse import find_or_close, load_once, opened, warehouse
from tests.services.pipeline.lab import Lab, lab
from topics.pipeline import CollectPart, DropPart, Figures, FindLoad, LoadBatch, Part


class Killed(BaseException):
    """kill -9, at this line."""


def kill(*_: object) -> None:
    raise Killed


FIGURES = Figures(rows=1, mean_bmi=1.0, mean_progression=1.0, slope=1.0, intercept=1.0)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as it:
        yield it


def count(table: str) -> int:
    with duckdb.connect(files.warehouse(), read_only=True) as db:
        return len(db.execute(f"SELECT * FROM {table}").fetchall())


def test_what_is_delivered_is_the_same_for_a_seed_and_each_damage_is_listed() -> None:
    first, same, other = (deliveries(MOST_BATCHES, seed) for seed in (1, 1, 2))
    assert first == same
    assert first != other
    whole = {",".join(row) for row in patients()}
    for delivery in first:
        listed = {(d.part, d.line) for d in delivery.damage if d.kind != "twice"}
        found = {(p, n) for p, lines in enumerate(delivery.parts) for n, line in enumerate(lines, 1) if line not in whole}
        assert found == listed


def test_a_batch_of_a_flaky_source_is_loaded(at: Lab) -> None:
    case = at.run(0)
    assert case.outcome == "completed"
    assert count("measurements") == case.data.kept == 44 - len(at.made[0].damage)
    assert "503" in case.story()


@pytest.mark.parametrize(("number", "reason"), [(3, "cleaner.batch-unusable.v1"), (4, "collector.part-unreadable.v1")])
def test_a_bad_batch_leaves_nothing(at: Lab, number: int, reason: str) -> None:
    case = at.run(number)
    assert case.outcome == "compensated"
    assert reason in case.story()
    assert [path for path in files.folder().rglob("*") if path.is_file() and "delivered" not in path.parts] == []


def test_a_later_run_takes_the_place_of_an_earlier_one_which_then_cannot_come_back(at: Lab) -> None:
    at.run(1)
    again = at.run(1, 2, reuse=1, repair=True)
    commas = sum(d.kind == "comma" for d in at.made[1].damage)
    assert again.data.kept == 44 - len(at.made[1].damage) + commas
    assert count("measurements") == again.data.kept
    assert not files.stored("clinic-1", 1).exists()
    assert at.run(1, 3, reuse=7).outcome == "compensated", "nobody has collected the parts of a run 7"
    late = LoadBatch(batch_id="clinic-1", run=1, figures=FIGURES)
    with pytest.raises(Exception, match="newer=2"):
        load_once(late, work("another"))


def work(command_id: str, subject_id: str = "") -> Work:
    return Work(command_id, subject_id, "execute", 1, "clinic-1.1", "pipeline:clinic-1.1:x", "")


def test_a_load_that_died_after_its_commit_only_says_again_what_it_did(at: Lab) -> None:
    case = at.run(1)
    (sent,) = case.commands(LoadBatch)
    with opened() as db:
        (command_id,) = db.execute("SELECT command_id FROM loads").fetchall()[0]
    before = count("measurements")
    assert load_once(sent, work(command_id)).rows == before
    assert (count("measurements"), count("loads")) == (before, 1)


def test_a_load_that_died_before_its_commit_leaves_no_row_and_the_next_one_does_it(
    at: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = at.run(1)
    (sent,) = case.commands(LoadBatch)
    before, second = count("measurements"), sent.model_copy(update={"run": 2})
    files.cleaned("clinic-1", 1).rename(files.cleaned("clinic-1", 2))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("services.pipeline.warehouse"), "Load", kill)
        with pytest.raises(Killed):
            load_once(second, work("c2"))
    assert (count("measurements"), count("loads")) == (before, 1)
    assert load_once(second, work("c2")).replaced == before
    assert (count("measurements"), count("loads")) == (before, 2)


def test_a_load_that_was_asked_after_too_early_never_happens(at: Lab) -> None:
    case = at.run(1)
    (sent,) = case.commands(LoadBatch)
    with pytest.raises(Exception):  # noqa: B017 - Nothing
        find_or_close(FindLoad(batch_id="clinic-1", run=2), work("v1", "c2"))
    with pytest.raises(RuntimeError, match="closed"):
        load_once(sent.model_copy(update={"run": 2}), work("c2"))
    assert count("loads") == 2


def test_a_load_that_died_after_its_commit_leaves_no_older_file_when_it_is_asked_after(
    at: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sent,) = at.run(1).commands(LoadBatch)
    second = sent.model_copy(update={"run": 2})
    files.cleaned("clinic-1", 1).rename(files.cleaned("clinic-1", 2))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("services.pipeline.warehouse"), "remove", kill)
        with pytest.raises(Killed):
            load_once(second, work("c2"))
    assert files.stored("clinic-1", 1).exists()
    assert find_or_close(FindLoad(batch_id="clinic-1", run=2), work("v1", "c2")).rows
    assert not files.stored("clinic-1", 1).exists()
    assert files.stored("clinic-1", 2).exists()


def test_a_draft_of_a_writer_that_was_killed_is_removed_with_its_file(at: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", kill)
        with pytest.raises(Killed):
            stage(CollectPart(batch_id="clinic-1", run=1, part=at.event(1).parts[0]), work("c1"), "text")
    assert list(files.folder().rglob("*.draft"))
    drop(DropPart(batch_id="clinic-1", run=1, part=0), work("c2", "c1"))
    assert not list(files.folder().rglob("*.draft"))


def test_what_an_earlier_try_may_have_written_is_no_refusal(at: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run 2 reuses the parts of run 1, which then turns back; and the process is killed when its table is written, before the commit."""
    parts = at.event(1).parts
    for part in parts:
        path = files.staged("clinic-1", 1, part.number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([HEADING, *at.made[1].parts[part.number]]))
    patched = importlib.import_module("services.pipeline.cleaner")
    write_whole = patched.write_whole
    died: list[Path] = []

    def write_and_be_killed(path: Path, write: Callable[[Path], object]) -> None:
        write_whole(path, write)
        if not died:
            died.append(path)
            for part in parts:
                drop(DropPart(batch_id="clinic-1", run=1, part=part.number), work("undo"))
            raise RuntimeError("killed")

    monkeypatch.setattr(patched, "write_whole", write_and_be_killed)
    case = at.run(1, 2, reuse=1)
    assert died == [files.cleaned("clinic-1", 2)]
    assert case.outcome == "compensated"
    assert not files.cleaned("clinic-1", 2).exists()


def test_a_part_that_is_unreadable_only_now_is_no_refusal(tmp_path: Path) -> None:
    """The same for a source that gives something else when it is asked again."""
    where = tmp_path / "part.csv.gz"
    where.write_bytes(b"no gzip")
    cmd = CollectPart(batch_id="clinic-1", run=1, part=Part(number=0, where=str(where)))
    with pytest.raises(Refused):
        fetch(cmd, work("c1"))
    with pytest.raises(ValueError, match="gzip"):
        fetch(cmd, replace(work("c1"), begun=1))


@pytest.mark.parametrize("seed", range(2))
def test_services_that_crash_on_the_way_load_each_row_once(tmp_path: Path, seed: int) -> None:
    with lab(tmp_path, seed=seed) as at:
        for number in range(len(at.made)):
            at.bench.start(at.event(number))
            at.bench.crash((collector, warehouse)[number % 2])
            at.bench.crash()
        at.bench.settle()
        at.run(0, 2, reuse=1, repair=True)
        assert [finding for finding in audit(at.books(), at.made, patients()) if finding.off] == []


# --- the audit ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Books, Lab]]:
    """What a whole story wrote. A test that breaks something takes a copy."""
    with lab(tmp_path_factory.mktemp("pipeline")) as at:
        for number in range(len(at.made)):
            at.run(number)
        at.run(0, 2, reuse=1, repair=True)
        yield at.books(), at


def test_the_audit_of_a_whole_story_finds_nothing(books: tuple[Books, Lab]) -> None:
    findings = audit(books[0], books[1].made, patients())
    assert [finding for finding in findings if finding.off] == []


def a_row_twice(b: Books) -> None:
    b.measurements.append(b.measurements[0])


def a_row_lost(b: Books) -> None:
    del b.measurements[0]


def a_value_changed(b: Books) -> None:
    b.measurements[0] = (*b.measurements[0][:-1], 1.0)


def a_load_twice(b: Books) -> None:
    b.loads.append(("another", *next(row for row in b.loads if row[3] == "loaded")[1:]))


def a_damaged_row_let_through(b: Books) -> None:
    b.quarantine.pop()


def a_good_row_set_aside(b: Books) -> None:
    b.quarantine.append(("clinic-0", 1, 0, 1))


def a_report_not_sent(b: Books) -> None:
    b.reports.popitem()


def a_report_that_says_less(b: Books) -> None:
    next(iter(b.reports.values()))["bad"].pop()


def figures_of_other_rows(b: Books) -> None:
    b.figures[0][2][3] += 0.01


def a_parquet_file_lost(b: Books) -> None:
    b.parquet.popitem()


def a_parquet_file_of_an_older_run(b: Books) -> None:
    b.parquet["clinic-0", 1] = [1]


def a_file_left_of_a_batch_that_was_undone(b: Books) -> None:
    b.left.append(files.staged("clinic-4", 1, 0))


def a_batch_without_outcome(b: Books) -> None:
    b.batches["clinic-2", 1] = ("parked", b.batches["clinic-2", 1][1])


def a_batch_lost(b: Books) -> None:
    del b.batches["clinic-4", 1]


def a_source_that_was_never_down(b: Books) -> None:
    b.requests["clinic-0", 0] = 1


BREAKS: list[Callable[[Books], None]] = [
    a_row_twice,
    a_row_lost,
    a_value_changed,
    a_load_twice,
    a_damaged_row_let_through,
    a_good_row_set_aside,
    a_report_not_sent,
    a_report_that_says_less,
    figures_of_other_rows,
    a_parquet_file_lost,
    a_parquet_file_of_an_older_run,
    a_file_left_of_a_batch_that_was_undone,
    a_batch_without_outcome,
    a_batch_lost,
    a_source_that_was_never_down,
]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_the_audit_finds(books: tuple[Books, Lab], damage: Callable[[Books], None]) -> None:
    broken = copy.deepcopy(books[0])
    damage(broken)
    assert any(finding.off for finding in audit(broken, books[1].made, patients()))


def test_the_audit_of_nothing_is_off() -> None:
    nothing = Books({}, [], [], [], {}, [], {}, {}, {}, [])
    assert sum(bool(finding.off) for finding in audit(nothing, [], patients())) >= 3

"""The collector: fetches the parts of a batch, from a server or a folder, and tells the clinics what became of them.

To fetch has no effect over there, so it may be done any number of times. What has one is the staged file; it is written in the command's
own transaction, where the inbox lets only one of a command and its compensation through.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path

import httpx

from saga import Participant, Refused, Work
from services.pipeline import files
from services.pipeline.clinics import HEADING
from services.pipeline.settings import Settings
from services.stage.files import remove, write_whole
from topics.pipeline import BatchReported, CollectPart, DropPart, PartCollected, PartDropped, PartUnreadable, ReportBatch

ANSWER_SECONDS = 3.0  # the source usually takes milliseconds
MAX_PART = 4 * 1024 * 1024  # bytes, unpacked

collector = Participant("collector")


def fetch(cmd: CollectPart, work: Work) -> str:
    """The part as text. Raises Refused if it is no part; whatever else is raised may be better the next time."""
    try:
        return _part(cmd.part.where)
    except ValueError as no:
        if work.begun:  # an earlier try may have staged the file, and only a compensation takes it away: what is refused has none
            raise
        raise Refused(PartUnreadable(part=cmd.part.number, reason=str(no)[:200])) from no


@collector.handles(CollectPart, calls=fetch)
def stage(cmd: CollectPart, _work: Work, text: str) -> PartCollected:
    path = files.staged(cmd.batch_id, cmd.run, cmd.part.number)
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))
    return PartCollected(part=cmd.part.number, rows=sum(1 for _ in csv.reader(text.splitlines())) - 1)


@collector.handles(DropPart)
def drop(cmd: DropPart, _work: Work) -> PartDropped:
    remove(files.staged(cmd.batch_id, cmd.run, cmd.part))
    return PartDropped(part=cmd.part)


def tell(cmd: ReportBatch, _work: Work) -> None:
    url = f"http://{Settings.read().source}/batches/{cmd.batch_id}/runs/{cmd.run}/report"
    body = {"loaded": cmd.loaded, "bad": [row.model_dump() for row in cmd.bad]}
    with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as http:
        http.put(url, json=body).raise_for_status()


@collector.handles(ReportBatch, calls=tell)
def reported(cmd: ReportBatch, _work: Work, _told: None) -> BatchReported:
    return BatchReported(batch_id=cmd.batch_id)


def _part(where: str) -> str:
    """Raises ValueError for what is no part."""
    try:
        text = (_over_http(where) if where.startswith("http") else _unzipped(Path(where))).decode()
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    heading = text.partition("\n")[0]
    if heading != HEADING:
        raise ValueError(f"it begins with {heading[:60]!r}, not with the heading")
    return text


def _over_http(url: str) -> bytes:
    with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as http:
        return http.get(url).raise_for_status().content


def _unzipped(path: Path) -> bytes:
    """Raises EOFError, BadGzipFile or zlib.error for what is no whole gzip file; OSError if there is none at all."""
    with gzip.open(path) as file:
        raw = file.read(MAX_PART + 1)
    if len(raw) > MAX_PART:
        raise gzip.BadGzipFile(f"it holds more than {MAX_PART} bytes")
    return raw

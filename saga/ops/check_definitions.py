"""What the journal registered, held against the definitions at hand: what would keep an orchestrator from running, or instances from
going on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from saga.cloudevents import iso_time
from saga.engine.book import Book
from saga.engine.graph import difference
from saga.engine.kinds import Waiting
from saga.ops.check_findings import About, Findings, Weight
from saga.runtime.fold import Fold

_TYPE = re.compile(r"[a-z][\w-]*(?:\.[\w-]+)+\.v\d+")  # a message type, as it stands in an outline


def check_definitions(book: Book, partitions: int, folds: Iterable[Fold], found: Findings) -> None:
    """Note what is wrong with the definitions. How many instances run each version is in `found` already (see `check_instances`).

    `folds` are looked at once, so they may come one after the other.
    """
    registered: dict[str, dict[str, str]] = {}
    for fold in folds:
        if fold.partitions not in (None, partitions):
            what = f"it was written for {fold.partitions} partitions, the app says {partitions}: saga run refuses"
            found.journal.add(Weight.BREAKS, what)
        for name, there in fold.outlines.items():
            saga, _, version = name.rpartition(" ")
            here = book.definition(saga, int(version))
            if here is not None and here.version == int(version) and here.graph.hash != there["hash"]:
                changed = "; ".join(line.strip() for line in difference(there["outline"], here.graph.outline).splitlines())
                what = f"its structure changed, but its version did not: saga run refuses. Give it a new version=. {changed}"
                found.of(saga, int(version)).add(Weight.BREAKS, what)
            registered[name] = there["outline"]
    for saga_here in book.all():
        found.of(saga_here.name, saga_here.version)
    for about in found.all():
        if about.live:
            _check_missing(book, about, registered.get(f"{about.saga} {about.version}", {}))


def _check_missing(book: Book, about: About, outline: dict[str, str]) -> None:
    """Instances run a version that is not there any more."""
    here = book.definition(about.saga, about.version)
    if here is not None and here.version == about.version:
        return
    there = (
        f"the saga {about.saga} is not in the app" if here is None else f"the app has version {_versions(book, about.saga)} only"
    )
    since = "" if about.oldest is None else f", the oldest since {iso_time(about.oldest)}"
    unread = sorted({type for line in outline.values() for type in _TYPE.findall(line)} - _known(book))
    types = f"; no definition names {', '.join(unread)} any more" if unread else ""
    count = "1 instance runs it" if about.live == 1 else f"{about.live} instances run it"
    about.add(Weight.BREAKS, f"{there}, but {count}{since}: each would park when anything comes for it{types}")


def _versions(book: Book, saga: str) -> str:
    return ", ".join(str(each.version) for each in book.all() if each.name == saga)


def _known(book: Book) -> set[str]:
    types = {message.__type__ for saga in book.all() for message in saga.messages()}
    events = (step.event for saga in book.all() for step in saga.steps.values() if isinstance(step, Waiting))
    return types | {event.__type__ for event in events if event is not None}

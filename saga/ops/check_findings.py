"""What a check found, summed up: ten thousand instances with one fault are one line, with their number and the first of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from saga.cloudevents import iso_time
from saga.ops.lines import Tone
from saga.ops.output import OK, PROBLEMS

MOST_FINDINGS = 20  # sentences of one weight about one version; an exception may name another key each time
MORE = "more of other kinds"


class Weight(StrEnum):
    """What a finding means for a deployment of the code at hand."""

    BREAKS = "breaks"  # it would refuse to run, or instances would park, lose data or lose what comes for them
    DIFFERS = "differs"  # it would decide otherwise than was decided; what was decided stays as it is
    UNCHECKED = "unchecked"  # nobody can say, because …


_TONES = {Weight.BREAKS: Tone.STUCK, Weight.DIFFERS: Tone.BAD, Weight.UNCHECKED: Tone.QUIET}


@dataclass
class Finding:
    """`what` is a sentence; it holds for `count` instances or decisions (0: for the definition as such), the first of them `example`."""

    weight: Weight
    what: str
    count: int = 0
    example: str = ""

    @property
    def sentence(self) -> str:
        where = (
            "" if not self.example else f" ({self.example})" if self.count == 1 else f" ({self.count} times, first {self.example})"
        )
        return f"{self.what}{where}"


@dataclass
class About:
    """What is known of one version of a saga: how many instances run it, since when the oldest, and how many decisions were compared."""

    saga: str
    version: int
    live: int = 0
    oldest: int | None = None  # ms: its start
    decisions: int = 0
    findings: list[Finding] = field(default_factory=list)
    _said: dict[tuple[Weight, str], Finding] = field(default_factory=dict)

    @property
    def result(self) -> str:
        weights = {finding.weight for finding in self.findings}
        return next((str(weight) for weight in Weight if weight in weights), "fine")

    def seen(self, started: int) -> None:
        self.live += 1
        self.oldest = started if self.oldest is None else min(self.oldest, started)

    def add(self, weight: Weight, what: str, example: str = "") -> None:
        """Note what is so for `example`, an instance or a decision; without one it is said of the definition as such."""
        if (weight, what) not in self._said and sum(finding.weight is weight for finding in self.findings) >= MOST_FINDINGS:
            what = MORE
        finding = self._said.get((weight, what))
        if finding is None:
            finding = self._said[weight, what] = Finding(weight, what, 0, example)
            self.findings.append(finding)
        finding.count += 1 if example else 0


class Findings:
    """All that a check found. What is no saga's is said of the journal."""

    def __init__(self) -> None:
        self.journal = About("", 0)
        self._sagas: dict[tuple[str, int], About] = {}

    def of(self, saga: str, version: int) -> About:
        return self._sagas.setdefault((saga, version), About(saga, version))

    def all(self) -> list[About]:
        """The journal first if there is anything to say of it, then the sagas by name and version; in each the heaviest first."""
        found = [about for _, about in sorted(self._sagas.items())]
        if self.journal.findings:
            found.insert(0, self.journal)
        for about in found:
            about.findings.sort(key=lambda finding: list(Weight).index(finding.weight))
        return found

    def count(self, weight: Weight) -> int:
        return sum(finding.weight is weight for about in self.all() for finding in about.findings)

    @property
    def exit_code(self) -> int:
        return PROBLEMS if self.count(Weight.BREAKS) else OK

    def rows(self) -> list[tuple[Tone, tuple[str, ...]]]:
        """For a table: a line for each finding, and one for what has none."""
        rows: list[tuple[Tone, tuple[str, ...]]] = []
        for about in self.all():
            name = (about.saga, str(about.version), str(about.live), str(about.decisions))
            if about is self.journal:
                name = ("(journal)", "", "", "")
            if not about.findings:
                rows.append((Tone.PLAIN, (*name, "fine", "")))
            for number, finding in enumerate(about.findings):
                first = name if number == 0 else ("", "", "", "")
                rows.append((_TONES[finding.weight], (*first, str(finding.weight), finding.sentence)))
        return rows

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "saga": about.saga or None,
                "version": about.version or None,
                "live": about.live,
                "oldest": None if about.oldest is None else iso_time(about.oldest),
                "decisions": about.decisions,
                "result": about.result,
                "findings": [asdict(finding) for finding in about.findings],
            }
            for about in self.all()
        ]

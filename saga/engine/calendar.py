"""When a schedule is due: which moments a cron expression names in a time zone, and which of them are run.

The naive way takes the wall clock for time, and matches the fields against it each minute. But a zone's clock jumps: in spring it leaves
02:30 out and the night's report is lost, in autumn it shows 02:30 twice and money is collected twice. And the whole cluster may have
been down, or the last run may still go on. So time here is the engine's, milliseconds since 1970; a wall clock only names the slots, by
the rules of Debian's cron. What becomes of a slot is decided when its timer fires (`due`) and when its run has ended (`after_run`).

A slot is a minute at which all fields match: minute, hour, day (of the month), month, weekday. If neither day nor weekday begins with *,
one of the two is enough. What happens at a change of the clock depends on the minute and the hour:

- Neither begins with *, as in "30 2 * * *" or "0 1-4 * * *": a time of day. Clock forward: what would have fallen into the part left
  out comes at the first moment after it (Berlin, 29 March 2026: 02:30 comes at 03:00), as one slot, also with what is due then anyway.
  Clock back: what falls into the repeated part comes once, the first time the clock shows it.
- One does, as in "0 * * * *" or "*/15 2 * * *": every so often. It comes whenever the clock shows it: never in the part left out (that
  day "*/15 2 * * *" has no slot), twice in the repeated part. So an hourly one has 23 slots on the one day and 25 on the other.

cronsim knows these rules, but it steps by whole hours: where a clock changes by half of one (Lord Howe), it passes over slots of the
second kind. So for these it is asked about a clock that never changes, from one change to the next.

A slot is found when the one before it is dealt with, so new rules of a zone (they come with tzdata) count from the next slot on.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

Missed = Literal["skip", "once", "all"]
Overlap = Literal["skip", "queue", "allow"]
GRACE = 60_000  # ms: a slot names a minute, so a run that begins within it is on time. It covers a restart or a change of owners

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS, SECOND, DAY = timedelta(milliseconds=1), timedelta(seconds=1), timedelta(days=1)
FIELDS = {"minute": "0-59", "hour": "0-23", "day": "1-31, L, LW", "month": "1-12, JAN-DEC", "weekday": "0-7, SUN-SAT"}
EXAMPLE = "write minute hour day month weekday, e.g. '0 2 * * *' for 02:00 every day"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a saga starts by itself. Raises ValueError, saying what is wrong and how it is written, if it never could.

    `missed` says what becomes of slots that passed while nobody looked: "skip" leaves out those more than GRACE late, "once" makes
    one run of them, for the latest, "all" runs each, oldest first. `overlap` says what becomes of those that pass while a run goes on:
    "skip" leaves them out, "queue" runs each after the one before, "allow" runs each at its time.
    """

    cron: str
    tz: str
    missed: Missed = "once"
    overlap: Overlap = "skip"

    def __post_init__(self) -> None:
        if mistake := _mistake(self.cron):
            raise ValueError(f"{self.cron!r} is no cron expression: {mistake}; {EXAMPLE}")
        if self.tz not in (zones := available_timezones() - {"localtime"}):  # which is another on each machine
            raise ValueError(f"{self.tz!r} is no time zone; {_meant(self.tz, zones)}")
        for name, value, known in (("missed", self.missed, get_args(Missed)), ("overlap", self.overlap, get_args(Overlap))):
            if value not in known:
                raise ValueError(f"{name}= is one of {', '.join(map(repr, known))}, not {value!r}")


class Turn(NamedTuple):
    """What to do now that a timer fired: the slot to run, if any, and the slot to wait for next. Both in ms since 1970."""

    run: int | None
    then: int  # it may have passed as well: then its timer fires at once


def next_slot(schedule: Schedule, moment: int) -> int:
    """The first slot after `moment` (a slot or any other time), never `moment` itself. In ms since 1970, as `moment` is."""
    since, zone = EPOCH + moment * MS, ZoneInfo(schedule.tz)
    minute, hour, *_ = schedule.cron.split()
    if minute.startswith("*") or hour.startswith("*"):
        slot = _every_so_often(schedule.cron, zone, since)
    else:  # cronsim begins at what the clock shows; in the second pass of a repeated part, that names slots of the first
        slots = (wall.astimezone(UTC) for wall in CronSim(schedule.cron, since.astimezone(zone)))
        slot = next(slot for slot in slots if slot > since)
    return (slot - EPOCH) // MS


def due(schedule: Schedule, at: int, now: int) -> Turn:
    """The timer of slot `at` fired at `now`, perhaps long after it (ms since 1970). A timer that comes early changes nothing (S26).

    The latest of many missed slots is searched for by halves, so an outage of a month costs some thirty looks, not one for each slot.
    """
    if now < at:
        return Turn(None, at)
    slot = at
    if schedule.missed == "skip" and now - at > GRACE:
        slot = next_slot(schedule, now - GRACE - 1)
    elif schedule.missed == "once":  # the latest is the first moment that no other slot follows until now
        slot = at + bisect_left(range(at, now), True, key=lambda moment: next_slot(schedule, moment) > now)
    return Turn(slot, next_slot(schedule, slot)) if slot <= now else Turn(None, slot)


def after_run(schedule: Schedule, at: int, fired: int, ended: int) -> int:
    """The slot that comes after the run of slot `at`, which ended at `ended`. All in ms since 1970.

    If the slot given has passed, it is to be run at once, without asking `due`: while a run goes on nothing is missed, `overlap` alone
    decides. `fired` is when a timer of this schedule fired last: the slots until then were missed, and missed="all" still
    owes them, whatever overlap says; those after it came while runs went on. A slot at `ended` itself overlaps nothing, so it counts
    as after the run. With overlap="allow" nobody waits for the run, and this is the slot that `due` gave.
    """
    following = next_slot(schedule, at)
    if schedule.overlap == "skip" and following > fired:
        return next_slot(schedule, max(at, ended - 1))  # never `at` again, even if the run's own clock is behind
    return following


def _read_zoned(value: Any) -> Any:
    if not isinstance(value, str) or not value.endswith("]"):
        return value
    text, _, zone = value[:-1].partition("[")
    try:
        return at.astimezone(ZoneInfo(zone)) if (at := datetime.fromisoformat(text)).tzinfo else at
    except (KeyError, OSError) as error:
        raise ValueError(f"{zone!r} is no time zone here") from error


def _write_zoned(at: datetime) -> str:
    return f"{at.isoformat()}[{at.tzinfo.key}]" if isinstance(at.tzinfo, ZoneInfo) else at.isoformat()


class Slot(BaseModel):
    """What a schedule's function gets: `at`, the moment the run is for, on the clock of the schedule's zone.

    `at.isoformat()` tells the two 02:30 of an autumn night apart by their offset; comparing them, or `at.date()`, does not.
    As JSON it is RFC 9557, "2026-10-25T02:30:00+01:00[Europe/Berlin]": the offset alone would not say which zone's clock it is.
    """

    model_config = ConfigDict(frozen=True)

    at: Annotated[AwareDatetime, BeforeValidator(_read_zoned), PlainSerializer(_write_zoned, when_used="json")]

    @classmethod
    def of(cls, schedule: Schedule, at: int) -> Slot:
        """The slot at `at` (ms since 1970) as that schedule's clock shows it."""
        return cls(at=(EPOCH + at * MS).astimezone(ZoneInfo(schedule.tz)))


def _every_so_often(cron: str, zone: ZoneInfo, since: datetime) -> datetime:
    """The first slot after `since`: found for a clock that stays as it is; if it changes before, then from the change on, with the new."""
    begin = since
    while True:
        offset = _offset(zone, since)
        slot = next(CronSim(cron, begin + offset)) - offset
        change = _change(zone, since, slot)
        if change is None:
            return slot
        since, begin = change, change - SECOND  # the moment of the change may itself be a slot


def _change(zone: ZoneInfo, since: datetime, until: datetime) -> datetime | None:
    """The first second in (since, until] at which the zone's clock is another than before. None changes twice a day."""
    since, before = since.replace(microsecond=0), _offset(zone, since)
    while since < until:
        step = min(since + DAY, until)
        if _offset(zone, step) != before:
            seconds = range(1, (step - since) // SECOND)
            return since + SECOND * (1 + bisect_left(seconds, True, key=lambda n: _offset(zone, since + n * SECOND) != before))
        since = step
    return None


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _mistake(cron: str) -> str:
    """What is wrong with an expression; nothing if it is one. cronsim would take seconds too, but a slot is a minute."""
    texts = cron.split()
    if len(texts) != len(FIELDS):
        return f"it has {len(texts)} of {len(FIELDS)} fields"
    for place, (name, known) in enumerate(FIELDS.items()):
        if not _is_ever([*"*" * place, texts[place], *"*" * (len(texts) - place - 1)]):
            return f"{name} {texts[place]!r} is not within {known}"
    return "" if _is_ever(texts) else "no day is ever like that"


def _is_ever(fields: list[str]) -> bool:
    try:
        return next(CronSim(" ".join(fields), EPOCH), None) is not None
    except (CronSimError, ValueError):  # ValueError: a number with thousands of digits
        return False


def _meant(tz: str, zones: set[str]) -> str:
    """A hint: the place that was probably meant, also by its city alone. Not by an abbreviation: EST is no guess for CEST."""
    places = [name for name in sorted(zones) if "/" in name and not name.startswith("Etc/")] + ["UTC"]
    spellings = {spelling.lower(): name for name in places for spelling in (name, name.rpartition("/")[2])}
    near = get_close_matches(tz.lower().replace(" ", "_"), spellings, n=1, cutoff=0.8)
    return f"did you mean {spellings[near[0]]}?" if near else "write a place of the tz database, e.g. 'Europe/Berlin', or 'UTC'"

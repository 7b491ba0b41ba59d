"""Schedules: which moments are slots, at each kind of change of a clock, and what becomes of those that passed."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from pydantic import ValidationError

from saga.engine.calendar import EPOCH, GRACE, MS, Schedule, Slot, Turn, after_run, due, next_slot

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
CLOCKS = {  # by zone, days on which its clock changed
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),  # by half an hour
    "America/Sao_Paulo": ("2018-02-17", "2018-11-04"),  # at midnight; from 2019 on no more
    "Antarctica/Troll": ("2026-03-29", "2026-10-25"),  # by two hours
    "Pacific/Apia": ("2011-12-30", "2012-04-01"),  # left out a whole day
    "Europe/Istanbul": ("2015-11-08", "2016-03-27"),  # stayed at summer time from 2016 on
    "UTC": ("2026-03-29", "2026-10-25"),
}


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // MS


def slots(cron: str, tz: str, begin: str, end: str) -> list[str]:
    """The slots in (begin, end], both in the zone's own time, as the clock there shows them."""
    zone, schedule = ZoneInfo(tz), Schedule(cron, tz)
    moment, last = (ms(datetime.fromisoformat(text).replace(tzinfo=zone).isoformat()) for text in (begin, end))
    found = []
    while (moment := next_slot(schedule, moment)) <= last:
        found.append(Slot.of(schedule, moment).at.isoformat(timespec="minutes"))
    return found


def of_day(cron: str, tz: str, day: str) -> list[str]:
    return slots(cron, tz, f"{datetime.fromisoformat(day) - MINUTE}", f"{day}T23:59")


@pytest.mark.parametrize(
    ("cron", "tz", "day", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+02:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:30+02:00"]),
        ("30 2 * * *", "America/New_York", "2026-03-08", ["03:00-04:00"]),
        ("30 1 * * *", "America/New_York", "2026-11-01", ["01:30-04:00"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["02:30+11:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["01:45+11:00"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-04", ["01:00-02:00"]),
        ("30 2 * * *", "UTC", "2026-03-29", ["02:30+00:00"]),
    ],
)
def test_a_time_of_day_comes_right_after_the_part_left_out_and_once_in_the_repeated_part(
    cron: str, tz: str, day: str, expected: list[str]
) -> None:
    assert of_day(cron, tz, day) == [f"{day}T{clock}" for clock in expected]


@pytest.mark.parametrize(
    ("cron", "tz", "day", "expected"),
    [
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-29", []),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"]),
        ("15 * * * *", "Australia/Lord_Howe", "2026-10-04", ["00:15+10:30", "01:15+10:30", "03:15+11:00"]),
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-04-05",
            ["00:45+11:00", "01:45+11:00", "01:45+10:30", "02:45+10:30", "03:45+10:30"],
        ),
        ("0 */2 * * *", "Australia/Lord_Howe", "2026-04-05", ["00:00+11:00", "02:00+10:30"]),  # cronsim alone passes over 02:00
        ("*/20 3 * * *", "Australia/Lord_Howe", "2026-10-04", ["03:00+11:00", "03:20+11:00", "03:40+11:00"]),
    ],
)
def test_every_so_often_comes_whenever_the_clock_shows_it(cron: str, tz: str, day: str, expected: list[str]) -> None:
    assert slots(cron, tz, f"{datetime.fromisoformat(day) - MINUTE}", f"{day}T03:59") == [f"{day}T{clock}" for clock in expected]


def test_of_a_day_left_out_the_slot_comes_at_the_begin_of_the_next() -> None:
    found = slots("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", "2011-12-31T23:59")
    assert found == ["2011-12-29T12:00-10:00", "2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"]


def test_what_falls_into_the_part_left_out_is_one_slot_also_with_what_is_due_then_anyway() -> None:
    assert of_day("15,45 1-3 * * *", "Europe/Berlin", "2026-03-29") == [
        f"2026-03-29T{clock}" for clock in ("01:15+01:00", "01:45+01:00", "03:00+02:00", "03:15+02:00", "03:45+02:00")
    ]
    assert of_day("0 2,3 * * *", "Europe/Berlin", "2026-03-29") == ["2026-03-29T03:00+02:00"]


def test_a_search_that_begins_in_the_second_pass_never_finds_a_slot_of_the_first() -> None:
    second_pass = ms("2026-10-25T02:10+01:00")
    assert next_slot(Schedule("45 2 * * *", "Europe/Berlin"), second_pass) == ms("2026-10-26T02:45+01:00")
    assert next_slot(Schedule("*/45 2 * * *", "Europe/Berlin"), second_pass) == ms("2026-10-25T02:45+01:00")


@pytest.mark.parametrize("tz", ["Europe/Berlin", "America/New_York"])
def test_an_hourly_schedule_has_23_and_25_slots_on_the_days_of_change(tz: str) -> None:
    forward, back = (len(of_day("0 * * * *", tz, day)) for day in CLOCKS[tz])
    assert (forward, back) == (23, 25)
    assert len(of_day("0 * * * *", tz, "2026-06-01")) == 24


@pytest.mark.parametrize("tz", CLOCKS)
def test_a_daily_schedule_runs_once_each_day_for_ten_years(tz: str) -> None:
    for clock in ("0 0", "30 1", "15 2", "30 2", "0 3"):
        found = slots(f"{clock} * * *", tz, "2010-12-31T12:00", "2020-12-31T12:00")
        days = Counter(slot[:10] for slot in found)
        left_out = tz == "Pacific/Apia" and clock == "0 0"  # one day, whose midnight is the next day's
        assert len(found) == 3653 - left_out, f"{clock} in {tz}: one for each day"
        assert set(days.values()) == {1} or tz == "Pacific/Apia", f"{clock} in {tz}: {days.most_common(2)}"


def test_slots_are_all_that_the_clock_shows() -> None:
    """Against the definition itself, minute by minute over days around each change, for any expression."""
    seed = 20261126
    random = Random(seed)
    for tz, changes in CLOCKS.items():
        for day in changes:
            for _ in range(6):
                cron = f"{random_field(random, 59)} {random_field(random, 23)} * * *"
                begin = datetime.fromisoformat(f"{day}T00:00+00:00") - 36 * HOUR + random.randrange(60_000) * MS
                expected = shown(cron, ZoneInfo(tz), begin, begin + 72 * HOUR)
                assert walk(cron, tz, begin, begin + 72 * HOUR) == expected, f"{cron} in {tz} around {day}, seed {seed}"


def random_field(random: Random, most: int) -> str:
    low, high = sorted(random.sample(range(min(most, 4 if most == 23 else most) + 1), 2))
    return random.choice(["*", f"*/{random.randint(2, 25)}", f"{low}", f"{low}-{high}", f"{low},{high}"])


def walk(cron: str, tz: str, begin: datetime, end: datetime) -> list[datetime]:
    schedule, moment, found = Schedule(cron, tz), (begin - EPOCH) // MS, list[datetime]()
    while EPOCH + (moment := next_slot(schedule, moment)) * MS <= end:
        found.append(EPOCH + moment * MS)
    assert all(one < two for one, two in pairwise(found)), f"{cron} in {tz}: slots strictly increase"
    return found


def shown(cron: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """The minutes in (begin, end] at which the zone's clock shows what `cron` names, by the rules at the top of calendar.py."""
    any_day = datetime(2026, 1, 1)
    named = {slot.time() for slot in takewhile(lambda slot: slot.day == 1, CronSim(cron, any_day - timedelta(seconds=1)))}
    often = any(field.startswith("*") for field in cron.split()[:2])
    minute, found = begin.replace(second=0, microsecond=0) - 4 * HOUR, list[datetime]()
    furthest = minute.astimezone(zone).replace(tzinfo=None)
    while (minute := minute + MINUTE) <= end:
        wall = minute.astimezone(zone).replace(tzinfo=None, fold=0)
        # A time of day: one that the clock shows, or left out just now, further on than it ever stood.
        passed = [wall] if often else [furthest + n * MINUTE for n in range(1, (wall - furthest) // MINUTE + 1)]
        furthest = max(furthest, wall)
        if minute > begin and any(each.time() in named for each in passed):
            found.append(minute)
    return found


def test_a_slot_in_a_leap_year_and_on_either_of_two_days() -> None:
    assert slots("0 5 29 2 *", "Europe/Berlin", "2026-01-01", "2033-01-01") == ["2028-02-29T05:00+01:00", "2032-02-29T05:00+01:00"]
    assert slots("*/30 5 29 2 *", "Europe/Berlin", "2026-01-01", "2028-12-31") == [f"2028-02-29T05:{m}+01:00" for m in ("00", "30")]
    days = [slot[8:10] for slot in slots("0 5 13 * FRI", "UTC", "2026-02-01", "2026-02-28")]
    assert days == ["06", "13", "20", "27"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"cron": "0 25 * * *"},
            r"'0 25 \* \* \*' is no cron expression: hour '25' is not within 0-23; write minute .*'0 2 \* \* \*'",
        ),
        ({"cron": "x 2 * * *"}, "minute 'x' is not within 0-59"),
        ({"cron": "0 2 0 * *"}, "day '0' is not within 1-31"),
        ({"cron": "0 2 * 13 *"}, "month '13' is not within 1-12"),
        ({"cron": "0 2 * * FRI-MON"}, "weekday 'FRI-MON' is not within 0-7"),
        ({"cron": "0 2 * *"}, "it has 4 of 5 fields"),
        ({"cron": "0 0 2 * * *"}, "it has 6 of 5 fields"),
        ({"cron": "@daily"}, "it has 1 of 5 fields"),
        ({"cron": "0 2 31 2 *"}, "no day is ever like that"),
        ({"cron": "* * */20 * 1L"}, "no day is ever like that"),
        ({"cron": "9" * 5000 + " 2 * * *"}, "minute '9+' is not within"),
        ({"tz": "Europe/Berln"}, r"'Europe/Berln' is no time zone; did you mean Europe/Berlin\?"),
        ({"tz": "new york"}, "did you mean America/New_York"),
        ({"tz": "CEST"}, "'CEST' is no time zone; write a place of the tz database, e.g. 'Europe/Berlin'"),
        ({"tz": "Europe"}, "is no time zone"),
        ({"tz": ""}, "is no time zone"),
        ({"tz": "localtime"}, "is no time zone"),
        ({"missed": "never"}, "missed= is one of 'skip', 'once', 'all', not 'never'"),
        ({"overlap": "once"}, "overlap= is one of 'skip', 'queue', 'allow', not 'once'"),
    ],
)
def test_a_schedule_that_never_could_be_is_refused_with_what_to_write(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**{"cron": "0 2 * * *", "tz": "Europe/Berlin", **arguments})


HOURLY = "2026-06-01T{}+00:00"


def hourly(missed: Any = "once", overlap: Any = "skip") -> Schedule:
    return Schedule("0 * * * *", "UTC", missed, overlap)


def at(clock: str) -> int:
    return ms(HOURLY.format(clock))


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_a_slot_is_run_when_its_timer_fires_up_to_the_grace_late(missed: str) -> None:
    for late in (0, 1, GRACE):
        assert due(hourly(missed), at("05:00"), at("05:00") + late) == Turn(at("05:00"), at("06:00"))


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_a_timer_that_comes_early_runs_nothing(missed: str) -> None:
    assert due(hourly(missed), at("05:00"), at("05:00") - 1) == Turn(None, at("05:00"))


@pytest.mark.parametrize(
    ("missed", "now", "run", "then"),
    [
        ("skip", "05:02", None, "06:00"),
        ("skip", "09:30", None, "10:00"),
        ("skip", "09:00:30", "09:00", "10:00"),  # this one is not missed
        ("once", "05:02", "05:00", "06:00"),
        ("once", "09:30", "09:00", "10:00"),
        ("once", "09:00", "09:00", "10:00"),
        ("all", "05:02", "05:00", "06:00"),
        ("all", "09:30", "05:00", "06:00"),  # whose timer fires at once
    ],
)
def test_slots_that_passed_while_nobody_looked(missed: str, now: str, run: str | None, then: str) -> None:
    assert due(hourly(missed), at("05:00"), at(now)) == Turn(at(run) if run else None, at(then))


def turns(schedule: Schedule, slot: int, now: int) -> list[int]:
    """What is run if the timer of `slot` fires at `now`, and all that have passed then fire at once."""
    run = []
    while slot <= now:
        turn = due(schedule, slot, now)
        assert turn.then > slot, "each turn comes nearer to now"
        run += [] if turn.run is None else [turn.run]
        slot = turn.then
    return run


def test_after_an_outage_of_a_month_all_runs_each_slot_in_order_and_the_others_the_latest_alone() -> None:
    now = at("05:00") + 31 * 86_400_000 + 20_000
    assert turns(Schedule("* * * * *", "UTC", "skip"), at("05:00"), now) == [now - 20_000]
    assert turns(Schedule("* * * * *", "UTC", "once"), at("05:00"), now) == [now - 20_000]
    assert turns(hourly("all"), at("05:00"), now) == [at("05:00") + n * 3_600_000 for n in range(31 * 24 + 1)]


def test_skip_runs_each_slot_within_the_grace_also_if_those_are_two() -> None:
    now = at("09:00")
    minutely = Schedule("* * * * *", "UTC", "skip")
    assert turns(minutely, at("05:00"), now) == [now - GRACE, now]
    assert runs(minutely, at("05:00"), now, 10_000) == [now - GRACE, now], "neither came while a run went on"


def test_the_latest_missed_slot_is_found_for_any_schedule_and_moment() -> None:
    random = Random(7)
    for _ in range(60):
        cron = f"{random_field(random, 59)} {random_field(random, 23)} * * *"
        tz = random.choice(list(CLOCKS))
        begin = datetime.fromisoformat(f"{random.choice(CLOCKS[tz])}T00:00+00:00") - 24 * HOUR
        now = begin + random.randrange(172_800_000) * MS
        if passed := [(slot - EPOCH) // MS for slot in walk(cron, tz, begin, now)]:
            turn = due(Schedule(cron, tz), passed[0], (now - EPOCH) // MS)
            assert turn.run == passed[-1], f"{cron} in {tz} from {begin} to {now}"


@pytest.mark.parametrize(
    ("overlap", "ended", "expected"),
    [
        ("skip", "05:10", "06:00"),
        ("skip", "07:30", "08:00"),
        ("skip", "07:00", "07:00"),  # at its very end a run overlaps nothing
        ("skip", "04:59", "06:00"),  # another clock, a little behind: the same slot never runs again
        ("queue", "05:10", "06:00"),
        ("queue", "07:30", "06:00"),
        ("allow", "07:30", "06:00"),
    ],
)
def test_slots_that_passed_while_a_run_went_on(overlap: str, ended: str, expected: str) -> None:
    for missed in ("skip", "once", "all"):
        assert after_run(hourly(missed, overlap), at("05:00"), at("05:00"), at(ended)) == at(expected)


def runs(schedule: Schedule, slot: int, now: int, takes: int) -> list[int]:
    """The slots run until the schedule waits again, if the timer of `slot` fires at `now` and each run takes `takes` ms."""
    fired, turn, run = now, due(schedule, slot, now), []
    following = turn.then
    if turn.run is not None:
        run, now = [turn.run], now + takes
        while (following := after_run(schedule, run[-1], fired, now)) <= now:
            run, now = [*run, following], now + takes
    assert following > now
    return run


def test_all_owes_the_missed_slots_but_not_those_that_came_while_their_runs_went_on() -> None:
    half, long = 1_800_000, 5_400_000
    missed = [at(f"0{hour}:00") for hour in range(1, 6)]
    assert runs(hourly("all"), at("01:00"), at("05:20"), half) == missed
    assert runs(hourly("all"), at("01:00"), at("05:20"), long) == missed, (
        "a run that takes longer than its period must not fall behind"
    )
    assert runs(hourly("all", "queue"), at("01:00"), at("05:20"), half) == [*missed, *(at(f"0{hour}:00") for hour in range(6, 10))]
    assert runs(hourly("once", "queue"), at("01:00"), at("05:20"), half) == [at("05:00")]
    assert runs(hourly("skip"), at("01:00"), at("05:20"), half) == []


@pytest.mark.parametrize("text", ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-06-01T00:00:00+02:00"])
def test_a_slot_is_on_the_clock_of_its_schedule_and_the_same_again_from_json(text: str) -> None:
    slot = Slot.of(Schedule("30 2 * * *", "Europe/Berlin"), ms(text))
    assert slot.model_dump_json() == f'{{"at":"{text}[Europe/Berlin]"}}'
    again = Slot.model_validate_json(slot.model_dump_json())
    assert again.at.isoformat() == slot.at.isoformat() == text
    assert again.at.tzinfo is slot.at.tzinfo is ZoneInfo("Europe/Berlin")


def test_a_slot_without_a_named_zone_keeps_its_offset() -> None:
    slot = Slot.model_validate_json('{"at": "2026-10-25T02:30:00+02:00"}')
    assert slot.at.astimezone(UTC).isoformat() == "2026-10-25T00:30:00+00:00"
    assert Slot.model_validate_json(slot.model_dump_json()) == slot


@pytest.mark.parametrize(
    "text", ["2026-10-25T02:30:00", "2026-10-25T02:30:00[UTC]", "2026-10-25T02:30:00Z[Mars/Base]", "]", "soon[UTC]"]
)
def test_what_is_no_moment_is_no_slot(text: str) -> None:
    with pytest.raises(ValidationError, match=re.escape("Slot\nat")):
        Slot.model_validate({"at": text})

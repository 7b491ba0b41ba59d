"""`saga participant check` as it is typed: what it shows, what it sends, and its exit codes; on a file log."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from saga import Participant, Store, Work
from saga.cli import cli
from saga.errors import Misconfigured
from saga.log.base import TopicPartition
from saga.log.file import FileLog
from saga.participant import ParticipantRunner
from tests.conformance.cup import PARTITIONS, Break, CupBroken, CupMade, Find, KilnFired, Make

APP = ("--app", "tests.conformance.cup:app")
CHECK = ("participant", "check", "cup", *APP)


def by_the_kit() -> Participant:
    cup = Participant("cup")

    @cup.handles(Make)
    def make(cmd: Make, work: Work) -> CupMade:
        work.emit(KilnFired())
        return CupMade(cup_id=cmd.cup_id, number=1)

    @cup.handles(Break)
    def smash(_cmd: Break, _work: Work) -> CupBroken:
        return CupBroken()

    @cup.handles(Find)
    def find(cmd: Find, _work: Work) -> CupMade:
        return CupMade(cup_id=cmd.cup_id, number=1)

    return cup


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file log that has all topics."""
    monkeypatch.setenv("SAGA_LOG", f"file:{tmp_path}/log")
    assert CliRunner().invoke(cli, ["topics", "apply", *APP]).exit_code == 0
    return tmp_path


def typed(command: Sequence[str]) -> Result:
    return CliRunner().invoke(cli, command)


def test_without_yes_it_shows_what_it_would_send_and_sends_nothing(folder: Path) -> None:
    done = typed(CHECK)
    assert done.exit_code == 0, done.output
    assert "  execute     cup.make.v1 {" in done.stdout
    assert "cup.made.v1 starts shelf: where an orchestrator runs it begins one for each.\n" in done.stdout
    assert "14 records that cannot be read are sent too" in done.stdout
    assert "Nothing was sent. To do it: --yes" in done.stderr
    assert asyncio.run(commands(folder)) == 0


async def commands(folder: Path) -> int:
    log = FileLog(folder / "log", client_id="test")
    await log.open()
    try:
        bounds = await log.bounds([TopicPartition("cup.commands", number) for number in range(PARTITIONS)])
        return sum(held.end for held in bounds.values())
    finally:
        await log.close()


def test_the_plan_is_a_value_for_programs(folder: Path) -> None:
    del folder
    (plan,) = json.loads(typed([*CHECK, "--no-garbage", "-o", "json"]).stdout)
    assert [command["type"] for command in plan["commands"]] == ["cup.make.v1", "cup.break.v1", "cup.find.v1"]
    assert (plan["topic"], plan["garbage"]) == ("cup.commands", 0)
    assert plan["heard"] == [["cup.made.v1", "starts", "shelf"], ["cup.broken.v1", "is awaited by", "shelf"]]


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_participant_of_the_kit_is_right(folder: Path, output: str) -> None:
    async def scene() -> Result:
        log, store, stop = FileLog(folder / "log", client_id="cup"), Store(f"sqlite:///{folder}/cup.db"), asyncio.Event()
        await log.open()
        running = asyncio.create_task(ParticipantRunner(by_the_kit(), store, log).run(stop))
        try:
            return await asyncio.to_thread(typed, [*CHECK, "--yes", "--remembers", "30d", "-o", output])
        finally:
            stop.set()
            await running
            await log.close()
            store.close()

    done = asyncio.run(scene())
    assert done.exit_code == 0, done.output
    assert re.search(
        r"\d+ hold\. \d+ records were sent under keys participant-check-\w+-…; \d+ effects were undone again, none is left\.",
        done.stderr,
    ), done.output
    if output == "json":
        found = json.loads(done.stdout)
        assert {finding["result"] for finding in found} == {"ok"}
        assert {"repeat", "tombstone", "once", "order", "expired"} <= {finding["check"] for finding in found}
    else:
        assert "✗" not in done.stdout
        assert "  ✓ a repeat of cup.make.v1 tells no event a second time under a new id\n" in done.stdout


def test_one_that_does_not_run_is_a_problem_that_was_found(folder: Path) -> None:
    del folder
    done = typed([*CHECK, "--yes", "--wait", "0.2"])
    assert done.exit_code == 3
    assert "  ✗ a command is answered done, or with a refusal that it names\n      expected  an answer\n" in done.stdout
    assert "      rule      “Answer every command, on <service>.events, " in done.stdout
    assert "0 hold, 1 does not. Nothing was answered, so no more was asked: does it run" in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("participant", "check", "pot", *APP), "no saga of this app sends a command to 'pot'; its participants: cup"),
        ((*CHECK, "--remembers", "a month"), "a duration is written 90s, 10m, 2h or 1d, not 'a month'"),
        ((*CHECK, "--samples", "nowhere.json"), "the samples in nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_told(folder: Path, command: Sequence[str], said: str) -> None:
    del folder
    done = typed(command)
    assert isinstance(done.exception, Misconfigured), done.output
    assert said in str(done.exception)


def test_topics_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_LOG", f"file:{tmp_path}/log")
    assert typed(["topics", "apply", "--app", "tests.ops.shop:app"]).exit_code == 0
    done = typed(CHECK)
    assert isinstance(done.exception, Misconfigured), done.output
    assert str(done.exception) == "there is no topic cup.commands, cup.events here: `saga topics apply` makes it"

"""`saga graph` and `saga map` as they are called; and docs/PICTURES.md, whose drawings are what they print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saga.cli import cli
from saga.cli_pictures import states_of
from saga.engine.state import Instance, Status, StepState, Waits
from tests.pages import ROOT, blocks_of
from tests.pictures.drawn import read

APP = "tests.pictures.test_map:APP"


def saga(*words: str, code: int = 0, app: str = APP) -> subprocess.CompletedProcess[str]:
    """Run the tool where no server is: it must need none."""
    line = [sys.executable, "-m", "saga.cli", *words, "--app", app]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, encoding="utf-8", env={"SAGA_BOOTSTRAP": "127.0.0.1:1"}, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def drawn(*words: str, app: str = APP) -> str:
    """What the same command prints, in this process: a drawing needs no other."""
    done = CliRunner().invoke(cli, [*words, "--app", app])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_in_a_pipe_it_is_text_without_colours() -> None:
    said = saga("graph", "every-kind").stdout
    assert said == (ROOT / "tests/pictures/golden/every.txt").read_text(encoding="utf-8")
    assert saga("map").stdout == (ROOT / "tests/pictures/golden/map.txt").read_text(encoding="utf-8")


def test_every_format_goes_to_stdout_or_into_a_file_by_its_ending(tmp_path: Path) -> None:
    for format, name in (("svg", "x.svg"), ("mermaid", "x.mmd"), ("dot", "x.gv"), ("text", "x.txt")):
        for command in (["graph", "every-kind"], ["map"]):
            printed = drawn(*command, "-f", format)
            assert drawn(*command, "--out", str(tmp_path / name)) == ""
            assert (tmp_path / name).read_text(encoding="utf-8") == printed


def test_columns_make_a_drawing_narrow() -> None:
    wide, narrow = (read(drawn("graph", "every-kind", "-f", "svg", *more)) for more in ([], ["--columns", "1"]))
    assert float(narrow.get("width", "")) < float(wide.get("width", ""))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["graph", "nothing"], "no saga nothing in this app; there are every-kind v3, audit v1, rating v1, nightly v1"),
        (["graph", "audit", "--version", "7"], "no saga audit v7 in this app"),
        (["map", "--saga", "nothing"], "no saga nothing in this app"),
        (["map", "--out", "map.png"], "which format is map.png? say -f, or end it with .svg, .mmd, .dot, .gv, .txt"),
        (["map", "--out", "no/such/folder/map.svg"], "cannot be written"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(words: list[str], said: str) -> None:
    assert said in saga(*words, code=2).stderr


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ({"m": Status.EXECUTING, "m/0": Status.DONE, "m/1": Status.EXECUTING}, "executing"),
        ({"m": Status.DONE, "m/0": Status.DONE, "m/1": Status.DONE}, "done"),
        ({"m": Status.DONE, "m/0": Status.COMPENSATING, "m/1": Status.COMPENSATED}, "compensating"),
        ({"m": Status.DONE, "m/0": Status.COMPENSATED, "m/1": Status.REFUSED}, "compensated"),
        ({"m": Status.SKIPPED}, "skipped"),
    ],
)
def test_a_mapped_step_is_marked_as_its_items_are(steps: dict[str, Status], word: str) -> None:
    of = Instance("s:k:1", "s", "k", 1, "", 0, 0, "")
    of.steps = {name: StepState(status, Waits.NOTHING, attempt=1, decided=0) for name, status in steps.items()}
    assert states_of(of) == {"m": word}
    of.steps["m/0"] = StepState(Status.EXECUTING, Waits.OPERATOR, attempt=1, decided=0)
    assert states_of(of) == {"m": "parked"}


DRAWINGS = {  # by file: the command that draws it, and the app
    "all-map": ("map", "services.all:app"),
    "chain": ("graph refund", "services.chain:app"),
    "chain-map": ("map", "services.chain:app"),
    "checkout": ("graph checkout", "services:app"),
    "customer": ("graph customer-change", "services.customer:app"),
    "map": ("map", "services:app"),
    "nightly": ("graph nightly", "services.nightly:app"),
    "pipeline": ("graph pipeline", "services.pipeline:app"),
    "platform-restart": ("graph restart", "services.platform:app"),
    "platform-rollout": ("graph rollout", "services.platform:app"),
    "platform-scale": ("graph scale", "services.platform:app"),
    "prediction": ("graph prediction", "services.prediction:app"),
    "review": ("graph review", "services.prediction:app"),
}


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_the_drawings_in_the_docs_are_what_the_commands_print(name: str) -> None:
    """To draw one anew: the command with --out, as docs/PICTURES.md has it."""
    command, app = DRAWINGS[name]
    printed = drawn(*command.split(), "-f", "svg", app=app)
    kept = (ROOT / "docs/images" / f"{name}.svg").read_text(encoding="utf-8")
    assert printed == kept, f"run: saga {command} --app {app} --out docs/images/{name}.svg"


def test_the_block_of_mermaid_in_the_docs_is_what_the_command_prints() -> None:
    (block,) = (block for block in blocks_of("docs/PICTURES.md") if block.language == "mermaid")
    assert block.text == saga("graph", "checkout", "-f", "mermaid", app="services:app").stdout

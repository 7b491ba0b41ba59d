"""README.md and docs/: their code is real, their commands exist, their links lead somewhere.

What runs as a whole is tested elsewhere: README's first saga (test_readme.py), TESTING.md (testing/test_page.py), HTTP_PARTICIPANT.md
(participant/http/test_page.py), the examples with kcat of PROTOCOL.md (test_protocol_page.py), the drawings of PICTURES.md
(pictures/test_commands.py). Of every other block Python is type-checked against this package, JSON and SQL are read by their own engines,
and shell is parsed: each `saga` command by the tool itself, up to the point where it would run; of `make` and `python -m` the target, the
module and the options must exist. Those blocks are not run: they need a demo that was left up, a cluster, or an hour.
"""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from saga.cli import cli
from services import app
from tests.pages import PAGES, ROOT, Block, blocks_of
from tests.test_readme import SECTION

ALL = [block for page in PAGES for block in blocks_of(page)]

# What a fragment takes for granted.
BEFORE = {
    "README.md": """
from pydantic import BaseModel
from saga import START, Command, Event, Saga, minutes

class OrderPlaced(Event, type="order.placed.v1"):
    order_id: str
    total: int

class PaymentTaken(Event, type="payment.taken.v1"): ...
class PaymentReturned(Event, type="payment.returned.v1"): ...
class ShipmentBooked(Event, type="shipping.booked.v1"): ...

class TakePayment(Command[PaymentTaken], service="payment"):
    order_id: str
    amount: int

class ReturnPayment(Command[PaymentReturned], service="payment"):
    order_id: str

class BookShipment(Command[ShipmentBooked], service="shipping"):
    order_id: str

class Checkout(BaseModel):
    order_id: str
    total: int
""",
    "docs/OPERATIONS.md": """
from sqlalchemy import MetaData
from saga import Participant, Store

payment, TABLES = Participant("payment"), MetaData()
""",
    "docs/PICTURES.md": """
from typing import Any
from saga import Saga

checkout: Saga[Any, Any]
""",
    "docs/examples/nightly.md": "",
    "docs/SEMANTICS.md": (ROOT / "tests/engine/before_semantics.py").read_text(encoding="utf-8"),
}
BEFORE["docs/API.md"] = f"""{BEFORE["README.md"]}
from saga import App, Participant, Refusal, Work

checkout: Saga[OrderPlaced, Checkout]
payment: Participant
"""
AFTER = {"README.md": "checkout.check()\n"}


def of(language: str) -> list[Block]:
    found = [block for block in ALL if block.language == language]
    assert found, f"no {language} was found"
    return found


def fragments() -> list[Block]:
    return [block for block in of("python") if block.page in BEFORE and block.section != SECTION]


def test_every_block_of_code_is_tested_somewhere() -> None:
    known = {"python", "toml", "sh", "json", "sql", "text", "mermaid", ""}  # text is what a command says, and "" a drawing
    assert [block.place for block in ALL if block.language not in known] == []
    whole = {"docs/TESTING.md", "docs/HTTP_PARTICIPANT.md"}
    assert [b.place for b in of("python") if b not in fragments() and b.section != SECTION and b.page not in whole] == []


def test_fragments_of_python_fit_the_package(tmp_path: Path) -> None:
    files: list[str] = []
    for block in fragments():
        name = f"fragment_{len(files)}.py"
        (tmp_path / name).write_text(BEFORE[block.page] + block.text + AFTER.get(block.page, ""), encoding="utf-8")
        files.append(name)
    assert len(files) >= 2
    line = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache" / "new"), *files]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_the_saga_on_the_first_screen_is_a_saga(tmp_path: Path) -> None:
    screen = fragments()[0]
    assert screen.page == "README.md"
    (tmp_path / "screen.py").write_text(BEFORE["README.md"] + screen.text + AFTER["README.md"], encoding="utf-8")
    runpy.run_path(str(tmp_path / "screen.py"), run_name="__main__")


def test_json_is_json() -> None:
    for block in of("json"):
        for line in block.text.splitlines():
            json.loads(line)


def test_sql_is_sql() -> None:
    with sqlite3.connect(":memory:", isolation_level=None) as database:
        for block in of("sql"):
            for statement in re.sub(r"--.*", "", block.text).split(";"):
                if "pg_advisory" not in statement:  # SQLite has one writer anyway, as the page says
                    database.execute(statement, dict.fromkeys(re.findall(r":(\w+)", statement), "1"))
        assert database.execute("SELECT state FROM inbox").fetchall() == [("done",)]


# --- shell ----------------------------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command in the shell of the pages, with its place; also what stands in a sentence, as `saga why KEY`."""
    for block in of("sh"):
        for number, line in enumerate(block.text.replace("\\\n", "  ").splitlines(), block.line):
            yield from ((f"{block.page}:{number}", words) for words in split(line))
    for page in PAGES:
        for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
            for span in re.findall(r"`((?:saga|make|python -m) [^`]+)`", line):
                yield from ((f"{page}:{number}", words) for words in split(span))


def split(line: str) -> list[list[str]]:
    """The commands of a line of shell, without settings before and redirections after."""
    lexer = shlex.shlex(re.sub(r"\d?>>? *\S+", "", line), posix=True, punctuation_chars="|&;<")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return []  # a quote over several lines: what is in it is no command of ours
    found: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("|&;<"):
            found.append([])
        elif found[-1] or "=" not in word:
            found[-1].append(word)
    return [command for command in found if command]


def test_shell_can_be_parsed() -> None:
    for block in of("sh"):
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block.place}: {done.stderr}"


def test_every_saga_command_is_one() -> None:
    seen = set()
    for place, words in commands():
        if words[0] != "saga" or len(words) == 1:
            continue
        given = ["1" if re.fullmatch(r"[A-Z]+", word) else word for word in words[1:]]
        given = ["topics:1" if word == "TOPIC:PARTITION" else word for word in given]
        try:
            seen.add(parsed(given))
        except Exception as error:  # Typer's own, of a module that is not public
            raise AssertionError(f"{place}: {' '.join(words)}: {error}") from error
    assert seen >= {"apply", "run", "publish", "list", "show", "why", "retry", "replay", "new", "graph", "map"}


def test_what_an_operator_says_in_the_place_of_a_service_fits() -> None:
    steps = {name: step for made in app.sagas for name, step in made.steps.items()}
    said = [words for _, words in commands() if words[:2] == ["saga", "skip"] and words[4:5] == ["--result"]]
    assert said, "no page shows a skip with a result"
    for _, _, _, step, _, result, *_ in said:
        command = steps[step].command_class
        assert command is not None
        command.__reply__.model_validate_json(result)


def parsed(words: list[str]) -> str:
    """The command that the tool would run; whatever is wrong with its arguments is raised."""
    at: Any = typer.main.get_command(cli)
    context = at.context_class(at)
    name = ""
    while hasattr(at, "commands"):
        name, at, words = at.resolve_command(context, words)
    if words:  # a sentence may name a command without its arguments
        at.make_context(name, words)
    return name


def test_every_target_of_make_is_one() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    targets |= {f"demo-{demo.parent.name}" for demo in (ROOT / "services").glob("*/demo.py")}
    named = {(place, word) for place, words in commands() if words[0] == "make" for word in words[1:] if "=" not in word}
    assert {word for _, word in named} >= {"demo", "test", "bench"}
    assert [place for place, word in named if word not in {*targets, "demo-NAME"}] == []


def test_every_module_that_is_run_exists_with_its_options() -> None:
    seen = set()
    for place, words in commands():
        if words[:2] != ["python", "-m"] or words[2] in ("venv", "pstats"):
            continue
        module = importlib.util.find_spec(words[2])
        assert module is not None, f"{place}: there is no {words[2]}"
        if module.submodule_search_locations:
            module = importlib.util.find_spec(f"{words[2]}.__main__")
        assert module is not None, f"{place}: {words[2]} cannot be run"
        assert module.origin is not None
        source = Path(module.origin).read_text(encoding="utf-8")
        if "(Example)" in source:  # an example's demo has the options of all of them
            source += (ROOT / "services/stage/example.py").read_text(encoding="utf-8")
        assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == [], place
        seen.add(words[2])
    assert len(seen) >= 3


# --- links ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_every_file_that_a_page_names_is_there() -> None:
    named = [
        (page, name)
        for page in PAGES
        for name in re.findall(
            r"`((?:saga|services|topics|infra|bench|tests)/[\w./-]+)`", (ROOT / page).read_text(encoding="utf-8")
        )
    ]
    assert len(named) > 20, "hardly a file was found"
    assert [(page, name) for page, name in named if not (ROOT / name).exists()] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}

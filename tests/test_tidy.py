"""The tree is the architecture: which room may import which, and what may stand in no file. Each rule is shown to bite."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OURS = ("saga", "services", "topics", "infra", "tests", "bench")
MOST_LINES = 450

# From a room to the rooms it may import, besides itself. A room is the longest prefix named here; "saga" alone is the package's
# own list of public names, which only users of the package import. A module that fits no room is a mistake.
BASE = {"saga.log.base", "saga.log.partition"}
PARTS = {"saga.engine", "saga.cloudevents", "saga.deadletter", "saga.errors", *BASE}
CONFIGURED = {"saga.config", "saga.errors", "saga.log.base"}
WHOLE = {"saga.raised", "saga.log", "saga.runtime", "saga.participant", "saga.config", "saga.metrics", *PARTS}
MAY_IMPORT: dict[str, set[str]] = {
    "saga.errors": set(),
    "saga.garbage": set(),
    "saga.lazy": set(),
    "saga.patterns": set(),
    "saga.raised": set(),
    "saga.config": {"saga.errors"},
    "saga.metrics": set(),
    "saga.engine": {"saga.errors"},
    "saga.log.base": {"saga.errors"},
    "saga.log.partition": {"saga.errors"},
    "saga.log": {"saga.errors", *BASE},
    "saga.cloudevents": {"saga.errors", "saga.log.base"},
    "saga.deadletter": {"saga.engine", "saga.errors", "saga.log.base"},
    "saga.logs": {"saga.engine"},
    "saga.runtime": {"saga.metrics", "saga.logs", "saga.raised", *PARTS},
    "saga.participant": {"saga.logs", *PARTS},
    "saga.participant.http": {"saga.participant", "saga.config", *PARTS},
    "saga.app": WHOLE,
    "saga.topics": {"saga.app", *WHOLE},
    "saga.connect": {"saga.log", *CONFIGURED},  # the one place that chooses an adapter
    "saga.ops": {"saga.raised", "saga.runtime", "saga.metrics", *PARTS},
    "saga.orchestrate": {"saga.garbage", "saga.app", "saga.connect", "saga.ops", "saga.topics", *(WHOLE - {"saga.log"})},
    "saga.participate": {
        "saga.garbage",
        "saga.connect",
        "saga.errors",
        "saga.logs",
        "saga.ops",
        "saga.participant",
        "saga.config",
        "saga.metrics",
    },
    "saga.reactor": {"saga.connect", "saga.log", "saga.config", *PARTS},
    "saga.conformance": {"saga.ops", "saga.patterns", *PARTS},
    "saga.instances": {"saga.config", "saga.connect", "saga.engine", "saga.ops"},
    "saga.pictures": {"saga.engine"},
    "saga.new": {"saga.errors"},
    "saga.testing": {"saga.app", "saga.lazy", "saga.ops", "saga.patterns", "saga.topics", *WHOLE},
    "saga.cli": {
        "saga.cli_operate",
        "saga.cli_participant",
        "saga.cli_check",
        "saga.cli_deadletters",
        "saga.cli_pictures",
        "saga.cli_parts",
        "saga.cli_tool",
        "saga.logs",
        "saga.app",
        "saga.connect",
        "saga.new",
        "saga.ops",
        "saga.orchestrate",
        "saga.topics",
        *CONFIGURED,
    },
    "saga.cli_check": {"saga.cli_parts", "saga.connect", "saga.ops", *CONFIGURED},
    "saga.cli_deadletters": {"saga.cli_parts", "saga.cli_tool", "saga.errors", "saga.log.base", "saga.ops"},
    "saga.cli_parts": {"saga.app", "saga.ops", *CONFIGURED},
    "saga.cli_participant": {"saga.cli_parts", "saga.conformance", "saga.connect", "saga.ops", *CONFIGURED},
    "saga.cli_pictures": {"saga.cli_parts", "saga.cli_tool", "saga.app", "saga.engine", "saga.errors", "saga.ops", "saga.pictures"},
    "saga": {"saga.app", "saga.lazy", "saga.topics", "saga.participant.http", *WHOLE},
    "saga.cli_operate": {"saga.cli_parts", "saga.cli_tool", "saga.engine", "saga.errors", "saga.ops"},
    "saga.cli_tool": {"saga.cli_parts", "saga.connect", "saga.engine", "saga.errors", "saga.ops"},
    "topics": {"saga"},
    "services": {"saga", "topics", "services"},
    **{
        room: {"saga", "topics", "services", "infra"}
        for room in ("services.checkout.demo", "services.checkout.stage", "services.stage")
    },  # they bring up a Kafka
    "infra": set(),
}
MUST_EXIST = ("saga.errors", "saga.engine", "saga.log", "saga.log.base", "saga.cloudevents", "saga.participant", "infra")

IMPURE = {"asyncio", "time", "random", "uuid", "os", "logging"}  # time, ids and randomness enter the engine as data
MOCKS = {"unittest.mock", "mock", "pytest_mock"}
ONLY_IN = {
    "aiokafka": re.compile(r"saga\.log\.kafka(_\w+)?"),
    "prometheus_client": re.compile(r"saga\.metrics"),
    "httpx": re.compile(r"saga\.participant\.http\.session"),
}
FAUST = re.compile(r"saga\.reactor\.\w+")  # it is an extra, it carries no money, and its warnings are its own


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(*packages: str) -> dict[str, str]:
    """Every module of these packages with its source."""
    found = {module_name(file): file.read_text() for package in packages for file in sorted((ROOT / package).rglob("*.py"))}
    assert found, f"nothing was scanned in {packages}"
    return found


def imports(module: str, source: str, is_package: bool = False) -> Iterator[str]:
    """Every dotted name that a module imports, also within functions; `from a import b` gives a.b, which may be no module."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def room_of(name: str) -> str:
    """The room a name belongs to: the longest that holds it. `saga.x` is "saga" where x is one of the public names."""
    return max((room for room in MAY_IMPORT if within(name, room)), key=len, default="")


def layering(module: str, source: str, is_package: bool = False) -> list[str]:
    """The imports of this module that point the wrong way."""
    room = room_of(module)
    if room == "saga" and module != "saga":
        return [f"{module}: belongs to no room; name it in MAY_IMPORT"]
    wrong = []
    for name in imports(module, source, is_package):
        target = room_of(name)
        is_ours = name.split(".")[0] in OURS
        # From outside, the package's rooms are all open; what is public is another test's matter.
        allowed = target.split(".")[0] if room.split(".")[0] != "saga" else target
        if is_ours and target != room and allowed not in MAY_IMPORT[room]:
            wrong.append(f"{module}: imports {name}, but {room} may import only {sorted(MAY_IMPORT[room]) or 'nothing of ours'}")
    return wrong


def impurities(module: str, source: str) -> list[str]:
    """Imports and calls that this module may not have, whatever its room."""
    wrong = []
    for name in imports(module, source):
        if within(module, "saga.engine") and name.split(".")[0] in IMPURE:
            wrong.append(f"{module}: imports {name}; the engine is pure")
        if any(within(name, mock) for mock in MOCKS):
            wrong.append(f"{module}: imports {name}; the real thing only")
        if within(module, "saga") and name == "time.sleep":
            wrong.append(f"{module}: imports time.sleep; await what you wait for")
        for library, place in ONLY_IN.items():
            if within(module, "saga") and within(name, library) and not place.fullmatch(module):
                wrong.append(f"{module}: imports {name}, which only {place.pattern} may")
        if within(name, "faust") and not FAUST.fullmatch(module):
            wrong.append(f"{module}: imports {name}, which only {FAUST.pattern} may")
    for node in ast.walk(ast.parse(source)):
        called = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if within(module, "saga") and called == "time.sleep":
            wrong.append(f"{module}:{node.lineno}: time.sleep; await what you wait for")  # type: ignore[attr-defined]
        if within(module, "saga") and module != "saga.config" and called in ("os.environ", "os.getenv"):
            wrong.append(f"{module}:{node.lineno}: {called}; only saga.config reads the environment")  # type: ignore[attr-defined]
    return wrong


def is_package(module: str) -> bool:
    return (ROOT / Path(*module.split(".")) / "__init__.py").exists()


# What users import, and examples that are to be copied from too. The checkout's tools and the stage look deeper, as tests do.
PUBLIC = {"saga", "saga.config", "saga.instances", "saga.participate", "saga.reactor", "saga.testing"}
LOOK_DEEPER = ("services.checkout", "services.stage")


def below_the_public(module: str, source: str) -> list[str]:
    """The imports of an example that reach below the public modules; a name of `saga` itself is public."""
    found = [name for name in imports(module, source) if within(name, "saga") and name.count(".") > 1]
    return [name for name in found if name.rpartition(".")[0] not in PUBLIC]


def test_no_example_reaches_below_the_public_api() -> None:
    scanned = {name: source for name, source in modules("services").items() if not any(within(name, room) for room in LOOK_DEEPER)}
    assert len(scanned) > 30, "hardly an example was scanned"
    assert {name: found for name, source in scanned.items() if (found := below_the_public(name, source))} == {}


def test_an_example_that_reaches_deeper_is_found() -> None:
    assert below_the_public("services.x", "from saga.engine.state import Instance") == ["saga.engine.state.Instance"]
    assert below_the_public("services.x", "from saga import Saga\nfrom saga.participate import serve") == []


def test_imports_point_one_way() -> None:
    scanned = modules("saga", *(name for name in ("services", "topics", "infra") if list((ROOT / name).rglob("*.py"))))
    for room in MUST_EXIST:
        assert any(room_of(module) == room for module in scanned), f"nothing was scanned in {room}"
    wrong = [line for module, source in scanned.items() for line in layering(module, source, is_package(module))]
    assert not wrong, "\n".join(wrong)


def test_each_module_uses_only_what_its_place_allows() -> None:
    scanned = modules("saga", "tests", *(name for name in ("services", "topics") if list((ROOT / name).rglob("*.py"))))
    wrong = [line for module, source in scanned.items() for line in impurities(module, source)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("saga.errors", "import saga.config"),
        ("saga.engine.decide", "from saga.log.base import Record"),
        ("saga.engine.decide", "from ..log import base"),
        ("saga.log.memory", "def f():\n    from saga.engine import state"),
        ("saga.cloudevents", "from saga.log import memory"),
        ("saga.runtime.task", "from saga.participant import Participant"),
        ("saga.runtime.task", "from saga.log.kafka import KafkaLog"),
        ("saga.runtime.task", "from saga import App"),
        ("saga.runtime.task", "import saga.config"),
        ("saga.cli", "from saga.runtime import journal"),
        ("saga.pictures.flow", "from saga.app import App"),
        ("saga.orchestrate", "from saga.log.file import FileLog"),
        ("saga.log.file", "from saga.connect import open_log"),
        ("saga.participant.runner", "import saga.runtime.codec"),
        ("saga.app", "from saga import cli"),
        ("saga.app", "import services"),
        ("saga.something_new", ""),
        ("topics.catalogue", "import services.checkout"),
        ("services.checkout.payment", "import infra.broker"),
        ("infra.broker.broker", "import saga.errors"),
    ],
)
def test_an_import_that_points_the_wrong_way_is_found(module: str, source: str) -> None:
    assert layering(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("saga.runtime.task", "from saga.log.base import Log\nfrom saga.engine.decide import decide\nimport asyncio"),
        ("saga.engine.decide", "from saga.engine import state\nfrom .state import State\nfrom saga.errors import Corrupt"),
        ("services.checkout.demo", "from services.checkout import payment"),
        ("services.checkout.payment", "from saga import Participant\nfrom topics.payment import TakePayment"),
        ("saga.reactor.reactor", "import faust\nfrom saga.connect import open_log"),
    ],
)
def test_an_import_that_points_the_right_way_passes(module: str, source: str) -> None:
    assert not layering(module, source) + impurities(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("saga.engine.decide", "import random"),
        ("saga.engine.decide", "from os import path"),
        ("saga.runtime.task", "import aiokafka"),
        ("saga.runtime.task", "from prometheus_client import Counter"),
        ("saga.runtime.task", "import time\ntime.sleep(1)"),
        ("saga.runtime.task", "from time import sleep"),
        ("saga.app", "import os\nos.environ['X']"),
        ("saga.runtime.task", "import faust"),
        ("services.checkout.payment", "from faust import App"),
        ("tests.services.test_x", "import faust"),
        ("tests.engine.test_x", "from unittest import mock"),
        ("tests.engine.test_x", "from unittest.mock import Mock"),
    ],
)
def test_what_a_place_does_not_allow_is_found(module: str, source: str) -> None:
    assert impurities(module, source)


def test_each_file_fits_in_one_reading() -> None:
    scanned = modules("saga", *(name for name in ("services", "topics") if list((ROOT / name).rglob("*.py"))))
    long = {module: lines for module, source in scanned.items() if (lines := source.count("\n")) > MOST_LINES}
    assert not long, f"over {MOST_LINES} lines; find the second idea and give it its own file: {long}"


# Registries, and the folders of the machine something was written on. A path within an address is not meant.
FOREIGN = re.compile(
    r"pypi\.(org|python)|files\.pythonhosted|--(extra-)?index-url|--find-links|--trusted-host"
    r"|repo1?\.maven|maven-central|registry\.npmjs|<(mirror|repositor(y|ies))>|(?<![\w.$}])/(work|root|home|Users)/\w"
)


def foreign(text: str) -> list[str]:
    return [match[0] for match in FOREIGN.finditer(text)]


def test_no_tracked_file_names_a_registry_or_a_path_of_some_machine() -> None:
    # The checkout may belong to another user than the one who tests; git must answer all the same.
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 10, "nothing was scanned"
    wrong = []
    for file in files:
        if file != Path(__file__) and b"\0" not in (content := file.read_bytes()):
            wrong += [f"{file.relative_to(ROOT)}: {found}" for found in foreign(content.decode())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("text", ["--index-url x", "https://pypi.org/simple", "see /root/notes", "at '/work/main'"])
def test_a_registry_or_a_path_of_some_machine_is_found(text: str) -> None:
    assert foreign(text)


def asked_and_locked() -> tuple[list[Requirement], dict[str, str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"], *(one for extra in extras for one in extra)]
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\w.+]+", line) for line in lines), "the lock names something that is not one version"
    return [Requirement(one) for one in asked], {
        canonicalize_name(name): version for name, version in (x.split("==") for x in lines)
    }


def unlocked(asked: list[Requirement], locked: dict[str, str]) -> list[str]:
    """What is asked for and does not stand in the lock at a version that will do."""
    versions = [(one, locked.get(canonicalize_name(one.name))) for one in asked]
    return [str(one) for one, version in versions if version is None or not one.specifier.contains(version)]


def test_the_lock_has_every_dependency_at_a_version_that_is_asked_for() -> None:
    asked, locked = asked_and_locked()
    assert not unlocked(asked, locked), f"not so in requirements.lock: {unlocked(asked, locked)}"


def test_users_get_ranges_with_both_ends_and_aiokafka_exactly() -> None:
    ours = [Requirement(one) for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]]
    operators = {one.name: sorted(each.operator for each in one.specifier) for one in ours}
    assert operators.pop("aiokafka") == ["=="]
    assert all(found == ["<", ">="] for found in operators.values()), operators


def test_a_lock_that_lacks_a_version_is_found() -> None:
    locked = {"psycopg": "3.3.9", "rich": "15.0.0"}
    asked = [Requirement(text) for text in ("Psycopg[binary]>=3.3,<4", "rich>=15.1,<16", "rich<15", "typer<1", "rich==15.0.0")]
    assert unlocked(asked, locked) == ["rich<16,>=15.1", "rich<15", "typer<1"]

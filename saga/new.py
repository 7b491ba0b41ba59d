"""`saga new NAME`: a small project that works: messages, a saga, its services, passing tests.

It is written from the files in `saga/template`, with the name put in. What they come to is checked as strictly as this package is.
"""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from saga.errors import Misconfigured

LONGEST = 30  # characters: the name is in every command id
TAKEN = frozenset({"saga", "tests", "test", "order", "payment", "stock", "app"}) | sys.stdlib_module_names
_SUFFIX = ".in"  # so that no tool takes a template for Python


def create(name: str, folder: Path) -> list[Path]:
    """Write a project named `name` into `folder`/`name`; say which files there are.

    Raises Misconfigured for a name that cannot be a package's, and for a folder that is there already: nothing is overwritten.
    """
    check_name(name)
    project = folder / name
    words = {"NAME": name, "SAGA": name.replace("_", "-"), "VARIABLE": f"{name}_saga"}
    texts = {project / _place(place, name): _fill(text, words) for place, text in _templates(files("saga") / "template", ())}
    try:
        project.mkdir(parents=True)
    except FileExistsError:
        raise Misconfigured(f"{project} is there already; nothing is overwritten") from None
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return sorted(texts)


def check_name(name: str) -> None:
    """Raises Misconfigured unless it can name a Python package that hides no other."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > LONGEST:
        raise Misconfigured(f"a name is lower-case letters, digits and single '_', at most {LONGEST} of them, not {name!r}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in TAKEN:
        raise Misconfigured(f"{name!r} is taken: Python or this project has another use for it")


def _templates(folder: Traversable, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    found: list[tuple[tuple[str, ...], str]] = []
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            found += _templates(entry, (*path, entry.name))
        elif entry.name.endswith(_SUFFIX):
            found.append(((*path, entry.name.removesuffix(_SUFFIX)), entry.read_text(encoding="utf-8")))
    return found


def _place(path: tuple[str, ...], name: str) -> Path:
    """Where a template goes: `package` is named as the project is, and a hidden file has its dot again."""
    renamed = {"package": name, "gitignore": ".gitignore"}
    return Path(*(renamed.get(part, part) for part in path))


def _fill(text: str, words: dict[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(f"@{word}@", meaning)
    return text

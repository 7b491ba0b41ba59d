"""The pages of this project as their tests see them: the blocks of code, with what stands before them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))


class Block(NamedTuple):
    """`file`: the file that the sentence before it names, if it ends with a name or so. `line`: of its first line, in the page."""

    page: str
    line: int
    section: str
    language: str
    file: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """All blocks of code of a page, in order."""
    found: list[Block] = []
    section = said = ""
    language: str | None = None
    inside: list[str] = []
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        if language is not None and line == "```":
            file = re.findall(r"`(\w+\.(?:py|toml))`", said)
            found.append(Block(page, number - len(inside), section, language, file[-1] if file else "", "\n".join(inside) + "\n"))
            language, inside, said = None, [], ""
        elif language is not None:
            inside.append(line)
        elif line.startswith("```"):
            language = line.removeprefix("```")
        elif line.startswith("#"):
            section, said = line.lstrip("#").strip(), ""
        else:
            said = f"{said} {line}"
    assert language is None, f"{page}: a block is not closed"
    return found

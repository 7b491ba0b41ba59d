"""Write the JSON Schemas and the AsyncAPI document from the catalogue: `python -m topics.generate [--check]`.

With --check nothing is written: it says what differs, and ends with 1 if anything does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from topics.asyncapi import document
from topics.json_schema import by_type, pretty, schema

HERE = Path(__file__).parent


def files() -> dict[Path, str]:
    """All that is generated, by path below this folder."""
    made = {Path("schemas") / f"{type}.json": pretty(schema(type, model)) for type, model in sorted(by_type().items())}
    made[Path("asyncapi.json")] = pretty(document())
    return made


def differences(folder: Path = HERE) -> list[str]:
    """What is not as the catalogue says, a line each."""
    wanted = files()
    there = {file.relative_to(folder) for file in (folder / "schemas").glob("*.json")}
    found = [f"{name} is missing" for name in wanted if not (folder / name).exists()]
    found += [
        f"{name} differs"
        for name, text in wanted.items()
        if (folder / name).exists() and (folder / name).read_text("utf-8") != text
    ]
    return found + [f"{name} is no message any more" for name in sorted(there - wanted.keys())]


def write(folder: Path = HERE) -> int:
    """Write what is missing or differs, remove what is no message any more; how many files there are."""
    wanted = files()
    (folder / "schemas").mkdir(exist_ok=True)
    for file in (folder / "schemas").glob("*.json"):
        if file.relative_to(folder) not in wanted:
            file.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, "utf-8")
    return len(wanted)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m topics.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what differs")
    if not parser.parse_args().check:
        print(f"{write()} files")
        return 0
    found = differences()
    print("\n".join(found) or "as the catalogue says")
    if found:
        print("write them anew with: python -m topics.generate", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

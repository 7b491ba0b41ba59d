"""The numbers of this package, on this machine: `make bench`, or `python -m bench [--only PART …]`.

A real Kafka, real processes, one part after the other; docs/PERFORMANCE.md says what each number means. A run of all parts is kept in
bench/results.json and docs/images/bench.png; `--write` puts the kept numbers into the pages that show them, and runs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.parts import PARTS, Bench, Sizes
from bench.plot import draw
from bench.readings import rounded
from bench.report import machine, tables, write
from bench.stage import ROOT
from infra.broker import Broker
from saga.config import Config

CACHE = ROOT / ".cache"
RESULTS = ROOT / "bench" / "results.json"
PICTURE = ROOT / "docs" / "images" / "bench.png"
PAGES = (ROOT / "README.md", ROOT / "docs" / "PERFORMANCE.md")
messages = Console(stderr=True, highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="measure only this, and keep nothing")
    parser.add_argument("--seconds", type=float, help="of each measurement, in place of its own")
    parser.add_argument("--orchestrators", type=int, default=1, metavar="N", help="orchestrators in the shop (%(default)s)")
    parser.add_argument("--services", type=int, default=1, metavar="N", help="processes for the five services (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the raw numbers, not tables")
    parser.add_argument(
        "--profile",
        choices=["orchestrator", "services", "floor", "responder"],
        default="",
        help="leave a cProfile of its main thread in .cache/bench; it then runs at half its speed",
    )
    parser.add_argument("--write", action="store_true", help="put the kept numbers into README.md and docs/PERFORMANCE.md")
    asked = parser.parse_args()
    if asked.write:
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
        for page in PAGES:
            messages.print(f"{page.relative_to(ROOT)}: {'written' if write(found, page) else 'has no place for them'}")
        return 0
    whole = not (asked.only or asked.seconds or asked.profile or asked.orchestrators != 1 or asked.services != 1)
    found = run(asked)
    if whole:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        draw(found, PICTURE)
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        Console().print(*tables(found), sep="\n")
    return 0


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for on a broker started for it; everything is gone afterwards, but for profiles."""
    sizes = Sizes()
    if asked.seconds:
        rates = dict.fromkeys(sizes.rates, asked.seconds)
        sizes = replace(sizes, rates=rates, saturated_seconds=asked.seconds, floor_seconds=asked.seconds)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=CACHE) as folder, Broker(Path(folder) / "kafka") as broker:
        config = Config(bootstrap=broker.bootstrap, dev=True)
        bench = Bench(config, {"broker": broker.pid}, Path(folder), sizes, asked.orchestrators, asked.services, asked.profile)
        found = asyncio.run(_measure(asked.only or list(PARTS), bench))
        for profile in Path(folder).glob("*.prof"):
            (CACHE / "bench").mkdir(exist_ok=True)
            kept = profile.rename(CACHE / "bench" / profile.name)
            messages.print(f"python -m pstats {kept.relative_to(ROOT)}")
    return found


async def _measure(parts: Sequence[str], bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {"machine": machine()}
    clock = asyncio.get_running_loop().time
    for number, part in enumerate(parts, 1):
        began = clock()
        found[part] = rounded(await PARTS[part](bench))
        messages.print(f"{number} of {len(parts)}: {part}, {clock() - began:.0f} s")
    return found


if __name__ == "__main__":
    sys.exit(main())

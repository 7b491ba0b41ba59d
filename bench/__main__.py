"""The numbers of this package, on this machine: `make bench`, or `python -m bench [--only PART …]`.

A real Kafka, real processes, one after the other; docs/PERFORMANCE.md says what each number means.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.latency import RATES, latency
from bench.readings import rounded
from bench.saturated import saturated
from bench.stage import ROOT, Stage
from bench.versus import versus
from infra.broker import Broker

PARTS = ("latency", "saturated", "floor")
SATURATED_SECONDS = 30.0
FLOOR_SECONDS = 8.0  # of each of eight rounds


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure only this")
    parser.add_argument("--seconds", type=float, help="of each measurement, in place of its own")
    parser.add_argument("--services", type=int, default=1, metavar="N", help="processes for the five services")
    parser.add_argument(
        "--profile",
        choices=["orchestrator", "services", "floor", "responder"],
        default="",
        help="leave a cProfile of it in .cache/bench",
    )
    options = parser.parse_args()
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache) as folder, Broker(Path(folder) / "kafka") as broker:
        found = asyncio.run(measure(options, broker, Path(folder)))
        for profile in Path(folder).glob("*.prof"):
            (cache / "bench").mkdir(exist_ok=True)
            profile.rename(cache / "bench" / profile.name)
            print(f"python -m pstats {(cache / 'bench' / profile.name).relative_to(ROOT)}", file=sys.stderr)
    print(json.dumps(rounded(found), indent=1))
    return 0


async def measure(options: argparse.Namespace, broker: Broker, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "latency" in options.only or "saturated" in options.only:
        found |= await whole(options, broker, folder)
    if "floor" in options.only:
        found["floor"] = await versus(broker, folder, options.seconds or FLOOR_SECONDS, profiled=options.profile)
    return found


async def whole(options: argparse.Namespace, broker: Broker, folder: Path) -> dict[str, Any]:
    """With the services and their databases."""
    found: dict[str, Any] = {}
    async with Stage("shop", broker.bootstrap, folder, options.profile) as stage:
        stage.orchestrator()
        stage.services(options.services)
        await stage.ready()
        log = stage.open_log("load")
        await log.open()
        try:
            await stage.first_sagas(log)
            if "latency" in options.only:
                found["latency"] = [await latency(stage, log, rate, options.seconds or s) for rate, s in RATES.items()]
            if "saturated" in options.only:
                found["saturated"] = await saturated(stage, log, broker.pid, options.seconds or SATURATED_SECONDS)
        finally:
            await log.close()
    return found


if __name__ == "__main__":
    sys.exit(main())

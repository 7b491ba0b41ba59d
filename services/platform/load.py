"""The users of the platform: they give jobs to the web front of the current version, again and again until each is accepted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from services.platform.addresses import current, place, run_folder

CALM_SECONDS = 0.4  # between two jobs
CROWD = 45  # so many jobs wait while a crowd is there
TOGETHER = 40  # of a crowd, who come at once
AGAIN_SECONDS = 0.1
ANSWER_SECONDS = 5.0


class Users:
    """Jobs in a steady trickle; `crowd`: as many as it takes that CROWD of them wait. What was accepted is noted in a file."""

    def __init__(self, noted: Path) -> None:
        self.crowd = False
        self.leaving = asyncio.Event()
        self.accepted = 0
        self._noted = noted

    async def come(self) -> None:
        """Until `leaving` is set."""
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as http:
            with self._noted.open("a", encoding="utf-8") as noted:
                while not self.leaving.is_set():
                    many = self.crowd and await self._waiting(http) < CROWD
                    jobs = [f"job-{self.accepted + number:05}" for number in range(TOGETHER if many else 1)]
                    await asyncio.gather(*(_insist(http, job) for job in jobs))
                    self.accepted += len(jobs)
                    noted.writelines(f"{job}\n" for job in jobs)
                    noted.flush()
                    if not many:
                        await asyncio.sleep(CALM_SECONDS)

    async def _waiting(self, http: httpx.AsyncClient) -> int:
        answer = await _asked(http, "store", "/load", {})
        return int(answer.json()["waiting"]) if answer is not None else 0


async def _insist(http: httpx.AsyncClient, job: str) -> None:
    """Whoever got no answer gives the same job again: under the same name it is the same job."""
    while True:
        if await _asked(http, "web", "/order", {"job": job}) is not None:
            return
        await asyncio.sleep(AGAIN_SECONDS)


async def _asked(http: httpx.AsyncClient, name: str, path: str, what: dict[str, str]) -> httpx.Response | None:
    """The answer of a program of the current version; None if there is none that is good."""
    folder = run_folder()
    there = place(folder, current(folder), name)
    if there is None:
        return None
    try:
        answer = await http.post(f"http://127.0.0.1:{there.port}{path}", json=what)
    except httpx.HTTPError:
        return None
    return answer if answer.status_code == 200 else None

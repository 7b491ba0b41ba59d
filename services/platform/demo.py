"""The platform: processes that are rolled out, scaled, killed, started again and rolled back, while users give them work.

    python -m services.platform.demo [--kill NAME|random|none] [--seed N] [--short] [--keep] [--stop]

Version v1 is rolled out; a crowd comes, and workers are added; one process is killed; v2 cannot show its page, so v1 stays; v3 can, and
takes over, while jobs go on; the crowd goes, and so do the workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any, ClassVar

from sqlalchemy import Row

from saga.instances import Instance
from services.platform.audit import ACCEPTED, SAGAS, audit, undone, wanted
from services.platform.load import Users
from services.platform.sizing import FEWEST, MOST
from services.stage.crew import DemoFailed
from services.stage.example import Example, main
from services.stage.findings import Finding
from topics.platform import ReleaseWanted

FLOWING = 10  # jobs, until the platform is said to work


class Platform(Example):
    """Real processes under a supervisor whose every decision is a saga's."""

    name = "platform"
    app = "services.platform:app"
    processes: ClassVar = {"host": ("services.platform", "host"), "lookout": ("services.platform", "lookout")}

    async def story(self) -> None:
        users = Users(self.data / ACCEPTED)
        async with asyncio.TaskGroup() as tasks:
            coming = tasks.create_task(users.come())
            try:
                await self._told(users)
                users.leaving.set()
                await coming
                await self._all_done(users)
            finally:
                users.leaving.set()

    async def _told(self, users: Users) -> None:
        await self._roll_out(ReleaseWanted(version="v1"), "completed")
        await self._flowing(users)
        self.say("a crowd comes")
        users.crowd = True
        self.under_way.set()
        await self._so_many_workers(MOST)
        await self._kill_one()
        await self._roll_out(ReleaseWanted(version="v2", page="pages/v2.html"), "compensated")
        await self._flowing(users)
        if not self.short:
            page = self.data / "v3.html"
            page.write_text("<!doctype html><title>v3</title>", encoding="utf-8")
            await self._roll_out(ReleaseWanted(version="v3", page=str(page)), "completed")
            await self._flowing(users)
        users.crowd = False
        self.say("the crowd goes")
        await self._so_many_workers(FEWEST)

    async def _roll_out(self, release: ReleaseWanted, outcome: str) -> None:
        self.say(f"{release.version} is rolled out" + (f"; its page is {release.page.rpartition('/')[2]}" if release.page else ""))
        await self.start(release)
        found: list[Instance] = []

        async def ended() -> bool:
            nonlocal found
            found = [state for state in await self.instances("rollout") if state.key == release.version]
            return bool(found) and not found[0].live

        await self.until(ended, lambda: f"the rollout of {release.version} has no outcome: {found}")
        if found[0].phase != outcome:
            raise DemoFailed(f"the rollout of {release.version} is {found[0].phase}, not {outcome}; {_processes(wanted())}")
        self.say(f"the rollout of {release.version} is {outcome}; {_processes(wanted())}")

    async def _flowing(self, users: Users) -> None:
        before = users.accepted

        async def accepted() -> bool:
            return users.accepted >= before + FLOWING

        await self.until(accepted, lambda: f"{users.accepted - before} jobs were accepted, not {FLOWING}")

    async def _so_many_workers(self, count: int) -> None:
        async def up() -> bool:
            workers: list[str] = [row.state for row in wanted() if row.name.startswith("worker-")]
            return workers == ["up"] * count

        await self.until(up, lambda: f"there should be {count} workers; {_processes(wanted())}")
        self.say(f"{count} workers run" if count > 1 else "one worker runs")

    async def _kill_one(self) -> None:
        """Any one of them: the store too, which all others need."""
        victim = self.random.choice([row for row in wanted() if row.state == "up"])
        os.kill(victim.pid, signal.SIGKILL)
        self.say(f"{victim.name} (process {victim.pid}) is killed with -9")
        pid: int = victim.pid

        async def back() -> bool:
            nonlocal pid
            found = [row for row in wanted() if (row.version, row.name) == (victim.version, victim.name) and row.state == "up"]
            pid = found[0].pid if found else victim.pid
            return bool(pid != victim.pid)

        await self.until(back, lambda: f"{victim.name} was not started again; {_processes(wanted())}")
        self.say(f"{victim.name} runs again (process {pid})")

    async def _all_done(self, users: Users) -> None:
        """Every saga has its outcome, every job is done, and what should run is up; the audit looks at the rest."""

        async def quiet() -> bool:
            live = [state for saga in SAGAS for state in await self.instances(saga) if state.live]
            return not live and undone(self.data) == 0 and all(row.state == "up" for row in wanted())

        await self.until(quiet, lambda: f"it does not come to rest; {_processes(wanted())}")
        self.say(f"{users.accepted} jobs were accepted")

    async def audit(self) -> list[Finding]:
        return await audit(self.data)


def _processes(rows: list[Row[Any]]) -> str:
    """What should run, in a few words."""
    return "there should run " + (", ".join(f"{row.name} {row.version} ({row.state})" for row in rows) or "nothing")


if __name__ == "__main__":
    sys.exit(main(Platform))

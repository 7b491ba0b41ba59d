"""The host: takes commands about processes and releases. It writes what is wanted; the supervisor makes it true; then it answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row

from saga import Nothing, Participant, Refused, Work
from services.platform import registry
from services.platform.registry import Id, Release, State
from services.platform.supervisor import Supervisor
from topics.platform import (
    DropRelease,
    FindSwitch,
    NotWanted,
    PlanRelease,
    ProbeFailed,
    ProbeRelease,
    ProcessStarted,
    ProcessStopped,
    ProcessUnfit,
    ReleaseDropped,
    ReleasePlanned,
    ReleaseProbed,
    ReleaseRetired,
    ReleaseSwitched,
    ReleaseTurnedDown,
    RestartProcess,
    RetireRelease,
    StartProcess,
    StopProcess,
    Survey,
    Surveyed,
    SwitchRelease,
)

TABLES = registry.TABLES
WITHIN = timedelta(seconds=25)  # for a call: a process has ten seconds to be ready, and five to end


class Host(Participant):
    """A participant with a supervisor, which its process gives it."""

    _supervisor: Supervisor | None = None

    @property
    def supervisor(self) -> Supervisor:
        if self._supervisor is None:
            raise RuntimeError("the host has no supervisor: its process begins with host.supervised_by(Supervisor(...))")
        return self._supervisor

    def supervised_by(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor


host = Host("host")

# --- processes ---------------------------------------------------------------------------------------------------------------------------


async def bring_up(cmd: StartProcess, _: Work) -> ProcessStarted:
    id = Id(cmd.version, cmd.name)
    if no := await host.supervisor.write(lambda connection: registry.want(connection, id, cmd.settings)):
        raise Refused(NotWanted(name=cmd.name, version=cmd.version, reason=no))
    row = await host.supervisor.settled(id)
    if row is not None and row.state != State.UP:
        # Refused means that nothing came of it, so nothing may: had it died while we waited, its restart would bring it back one day.
        row = await host.supervisor.write(lambda connection: registry.unwant_unless_up(connection, id))
    return _started(id, row)


async def bring_back(cmd: RestartProcess, _: Work) -> ProcessStarted:
    id = Id(cmd.version, cmd.name)
    if no := await host.supervisor.write(lambda connection: registry.again(connection, id)):
        raise Refused(NotWanted(name=cmd.name, version=cmd.version, reason=no))
    return _started(id, await host.supervisor.settled(id))


def _started(id: Id, row: Row[Any] | None) -> ProcessStarted:
    if row is None:
        raise Refused(NotWanted(name=id.name, version=id.version, reason="it was stopped on purpose meanwhile"))
    if row.state != State.UP:
        raise Refused(ProcessUnfit(name=id.name, version=id.version, reason=row.reason))
    return ProcessStarted(name=id.name, version=id.version, pid=row.pid)


async def bring_down(cmd: StopProcess, _: Work) -> ProcessStopped:
    id = Id(cmd.version, cmd.name)
    await host.supervisor.write(lambda connection: registry.unwant(connection, id))
    await host.supervisor.gone(lambda other: other == id)
    return ProcessStopped(name=cmd.name, version=cmd.version)


@host.handles(StartProcess, calls=bring_up, within=WITHIN)
def start(_: StartProcess, _work: Work, started: ProcessStarted) -> ProcessStarted:
    return started


@host.handles(RestartProcess, calls=bring_back, within=WITHIN)
def restart(_: RestartProcess, _work: Work, started: ProcessStarted) -> ProcessStarted:
    return started


@host.handles(StopProcess, calls=bring_down, within=WITHIN)
def stop(_: StopProcess, _work: Work, stopped: ProcessStopped) -> ProcessStopped:
    return stopped


@host.handles(Survey)
def survey(_: Survey, work: Work) -> Surveyed:
    connection = _in(work)
    version = registry.current(connection)
    return Surveyed(version=version, workers=registry.workers(connection, version))


# --- releases ----------------------------------------------------------------------------------------------------------------------------


@host.handles(PlanRelease)
def plan(cmd: PlanRelease, work: Work) -> ReleasePlanned:
    """One release at a time, and no version twice: what was started of it would be stopped if the second try failed."""
    connection = _in(work)
    states = {row.version: row.state for row in connection.execute(registry.releases.select())}
    under_way = sorted(version for version, state in states.items() if state == Release.PLANNED)
    if under_way:
        raise Refused(ReleaseTurnedDown(reason=f"{under_way[0]} is being rolled out"))
    if states.get(cmd.version) in (Release.CURRENT, Release.RETIRED):
        raise Refused(ReleaseTurnedDown(reason=f"{cmd.version} is {states[cmd.version]}"))
    registry.set_release(connection, cmd.version, Release.PLANNED)
    old = registry.current(connection)
    return ReleasePlanned(old=old, workers=registry.workers(connection, old))


@host.handles(DropRelease)
def drop(cmd: DropRelease, work: Work) -> ReleaseDropped:
    registry.retire(_in(work), cmd.version, Release.DROPPED)
    return ReleaseDropped(version=cmd.version)


async def ask_all(cmd: ProbeRelease, _: Work) -> ReleaseProbed:
    rows = await host.supervisor.look(registry.everything)
    for id in [Id(row.version, row.name) for row in rows if row.version == cmd.version]:
        if no := await host.supervisor.answers(id):
            raise Refused(ProbeFailed(version=cmd.version, reason=f"{id.name}: {no}"))
    return ReleaseProbed(version=cmd.version)


@host.handles(ProbeRelease, calls=ask_all)
def probe(_: ProbeRelease, _work: Work, probed: ReleaseProbed) -> ReleaseProbed:
    return probed


@host.handles(SwitchRelease)
def switch(cmd: SwitchRelease, work: Work) -> ReleaseSwitched:
    """The old version is retired in the same transaction: from here on nothing of it is started any more."""
    connection = _in(work)
    if old := registry.current(connection):
        registry.set_release(connection, old, Release.RETIRED)
    registry.set_release(connection, cmd.version, Release.CURRENT)
    return ReleaseSwitched(version=cmd.version)


@host.handles(FindSwitch)
def find_switch(cmd: FindSwitch, work: Work) -> ReleaseSwitched:
    if registry.current(_in(work)) != cmd.version:
        raise Nothing
    return ReleaseSwitched(version=cmd.version)


async def end_all(cmd: RetireRelease, _: Work) -> ReleaseRetired:
    await host.supervisor.write(lambda connection: registry.retire(connection, cmd.version, Release.RETIRED))
    await host.supervisor.gone(lambda id: id.version == cmd.version)
    return ReleaseRetired(version=cmd.version)


@host.handles(RetireRelease, calls=end_all, within=WITHIN)
def retire(_: RetireRelease, _work: Work, retired: ReleaseRetired) -> ReleaseRetired:
    return retired


def _in(work: Work) -> Connection:
    assert work.connection is not None, "a def handler has its transaction"
    return work.connection

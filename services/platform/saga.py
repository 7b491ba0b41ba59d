"""What happens to the platform: a version is rolled out, a process that died is started again, and workers come and go with the load.

    rollout   plan ──▶ store ──┬──▶ web ──────────┬──▶ probe ──▶ switch ──▶ retire
                               └──▶ each worker ──┘              pivot      the old version, if there was one

    restart   back off, the longer the more often it died lately ──▶ start again; or, after too many deaths, call somebody

    scale     measure ──┬──▶ start each worker that is missing
              survey ───┘    stop each that is too many

The new version is started beside the old one, which serves until `switch`. So all that a release that fails has to undo is what it
started itself; nobody who uses the platform has seen any of it.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from saga import START, Retry, Saga, hours, minutes, seconds, unless
from services.platform.sizing import FEWEST, workers_for
from topics.platform import (
    CallSomebody,
    DropRelease,
    FindSwitch,
    LoadChanged,
    LoadRead,
    PlanRelease,
    ProbeRelease,
    ProcessDied,
    ReadLoad,
    ReleasePlanned,
    ReleaseWanted,
    RestartProcess,
    RetireRelease,
    StartProcess,
    StopProcess,
    Survey,
    Surveyed,
    SwitchRelease,
)

SOON = seconds(10)
A_START = seconds(40)  # a process has ten seconds to be ready; the rest is for a host that is itself being started again
PATIENT = Retry(attempts=20, longest=seconds(10))

# --- rollout -----------------------------------------------------------------------------------------------------------------------------


class Rollout(BaseModel):
    version: str
    page: str
    old: str = ""
    workers: tuple[str, ...] = ()


rollout = Saga("rollout", version=1, starts_on=ReleaseWanted, key=lambda wanted: wanted.version, data=Rollout, deadline=minutes(10))


@rollout.start
def wanted(w: ReleaseWanted) -> Rollout:
    return Rollout(version=w.version, page=w.page)


@rollout.step(after=START, timeout=SOON)
def plan(r: Rollout) -> PlanRelease:
    return PlanRelease(version=r.version)


@plan.done
def planned(r: Rollout, reply: ReleasePlanned) -> Rollout:
    fewest = worker_names(0, FEWEST)
    return r.model_copy(update={"old": reply.old, "workers": reply.workers or fewest})


@plan.compensate
def drop(_: Rollout, sent: PlanRelease) -> DropRelease:
    return DropRelease(version=sent.version)


@rollout.step(after=plan, timeout=A_START)
def start_store(r: Rollout) -> StartProcess:
    return StartProcess(name="store", version=r.version)


@rollout.step(after=start_store, timeout=A_START)
def start_web(r: Rollout) -> StartProcess:
    return StartProcess(name="web", version=r.version, settings={"PAGE": r.page} if r.page else {})


@rollout.each(lambda r: r.workers, after=start_store, timeout=A_START)
def start_worker(r: Rollout, name: str) -> StartProcess:
    return StartProcess(name=name, version=r.version)


@start_store.compensate
def stop_store(_: Rollout, sent: StartProcess) -> StopProcess:
    return StopProcess(name=sent.name, version=sent.version)


@start_web.compensate
def stop_web(_: Rollout, sent: StartProcess) -> StopProcess:
    return StopProcess(name=sent.name, version=sent.version)


@start_worker.compensate
def stop_worker(_: Rollout, name: str, sent: StartProcess) -> StopProcess:
    return StopProcess(name=name, version=sent.version)


@rollout.step(after=[start_web, start_worker], timeout=A_START, retry=PATIENT, compensation=None)
def probe(r: Rollout) -> ProbeRelease:
    return ProbeRelease(version=r.version)


@rollout.step(after=probe, pivot=True, timeout=SOON)
def switch(r: Rollout) -> SwitchRelease:
    return SwitchRelease(version=r.version)


@switch.verify
def find_switch(_: Rollout, sent: SwitchRelease) -> FindSwitch:
    return FindSwitch(version=sent.version)


@rollout.step(after=switch, timeout=A_START, when=lambda r: r.old != "")
def retire(r: Rollout) -> RetireRelease:
    return RetireRelease(version=r.old)


# --- restart -----------------------------------------------------------------------------------------------------------------------------

FIRST, LONGEST = seconds(0.5), seconds(30)
MOST_DEATHS = 6  # within a minute


class Death(BaseModel):
    name: str
    version: str
    at: datetime
    lately: int
    reason: str


restart = Saga(
    "restart",
    version=1,
    starts_on=ProcessDied,
    key=lambda died: f"{died.name}.{died.version}.{died.death}",
    data=Death,
    deadline=hours(1),
)


@restart.start
def died(d: ProcessDied) -> Death:
    return Death(name=d.name, version=d.version, at=d.at, lately=d.lately, reason=d.reason)


def back_off(d: Death) -> datetime:
    """Half a second after its first death, then twice as long each time."""
    return d.at + min(FIRST * 2.0 ** (d.lately - 1), LONGEST)


backed_off = restart.pause(back_off, after=START, name="back_off", when=lambda d: d.lately < MOST_DEATHS)


# The pivot, since there is no way back from a process that runs: where nobody answers it parks, rather than end as if all were well.
@restart.step(after=backed_off, when=backed_off, pivot=True, timeout=A_START, retry=PATIENT)
def start_again(d: Death) -> RestartProcess:
    return RestartProcess(name=d.name, version=d.version)


@restart.step(after=START, when=unless(backed_off), pivot=True, timeout=SOON, retry=PATIENT)
def call_somebody(d: Death) -> CallSomebody:
    return CallSomebody(name=d.name, version=d.version, what=f"died {d.lately} times within a minute; the last time {d.reason}")


# --- scale -------------------------------------------------------------------------------------------------------------------------------


class Scale(BaseModel):
    waiting: int
    version: str = ""
    workers: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        return worker_names(len(self.workers), self._wanted)

    @property
    def too_many(self) -> tuple[str, ...]:
        return self.workers[self._wanted :]

    @property
    def _wanted(self) -> int:
        return workers_for(self.waiting, len(self.workers)) if self.version else 0


scale = Saga("scale", version=1, starts_on=LoadChanged, key=lambda load: load.reading, data=Scale, deadline=minutes(5))


@scale.start
def changed(load: LoadChanged) -> Scale:
    return Scale(waiting=load.waiting)


@scale.step(after=START, timeout=SOON, retry=PATIENT, compensation=None)
def measure(_: Scale) -> ReadLoad:
    return ReadLoad()


@measure.done
def measured(s: Scale, reply: LoadRead) -> Scale:
    return s.model_copy(update={"waiting": reply.waiting})


@scale.step(after=START, timeout=SOON, retry=PATIENT, compensation=None)
def survey(_: Scale) -> Survey:
    return Survey()


@survey.done
def surveyed(s: Scale, reply: Surveyed) -> Scale:
    return s.model_copy(update={"version": reply.version, "workers": reply.workers})


@scale.each(lambda s: s.missing, after=[measure, survey], timeout=A_START)
def grow(s: Scale, name: str) -> StartProcess:
    return StartProcess(name=name, version=s.version)


@grow.compensate
def shrink_again(_: Scale, name: str, sent: StartProcess) -> StopProcess:
    return StopProcess(name=name, version=sent.version)


@scale.each(lambda s: s.too_many, after=[measure, survey], timeout=A_START, compensation=None)
def shrink(s: Scale, name: str) -> StopProcess:
    return StopProcess(name=name, version=s.version)


def worker_names(have: int, wanted: int) -> tuple[str, ...]:
    """The workers that are missing where the first `have` of them run."""
    return tuple(f"worker-{number}" for number in range(have + 1, wanted + 1))

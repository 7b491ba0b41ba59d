"""A platform of operating-system processes: releases, the host that runs their processes, the load meter, the pager."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from saga import Command, Event, Refusal
from topics.values import Text


class ReleaseWanted(Event, type="platform.release-wanted.v1"):
    """A version shall run in place of the one that runs. `page` is the file that its web process shows; "" for the one built in."""

    version: Text
    page: str = ""


# --- releases: what the host does with a whole version -----------------------------------------------------------------------------------


class ReleasePlanned(Event, type="host.release-planned.v1"):
    """`old` is the version that is current ("" if there is none), `workers` the names of its workers."""

    old: str
    workers: tuple[Text, ...]


class ReleaseTurnedDown(Refusal, type="host.release-turned-down.v1"):
    reason: str


class PlanRelease(Command[ReleasePlanned], service="host", refuses=(ReleaseTurnedDown,)):
    version: Text


class ReleaseDropped(Event, type="host.release-dropped.v1"):
    version: Text


class DropRelease(Command[ReleaseDropped], service="host"):
    version: Text


class ReleaseProbed(Event, type="host.release-probed.v1"):
    version: Text


class ProbeFailed(Refusal, type="host.probe-failed.v1"):
    version: Text
    reason: str


class ProbeRelease(Command[ReleaseProbed], service="host", refuses=(ProbeFailed,)):
    """Do all processes of this version answer, now and together?"""

    version: Text


class ReleaseSwitched(Event, type="host.release-switched.v1"):
    version: Text


class SwitchRelease(Command[ReleaseSwitched], service="host"):
    """Who asks for the platform gets this version from now on."""

    version: Text


class FindSwitch(Command[ReleaseSwitched], service="host"):
    version: Text


class ReleaseRetired(Event, type="host.release-retired.v1"):
    version: Text


class RetireRelease(Command[ReleaseRetired], service="host"):
    """Stop all processes of a version, and start none of it any more."""

    version: Text


# --- processes ---------------------------------------------------------------------------------------------------------------------------


class ProcessStarted(Event, type="host.process-started.v1"):
    name: Text
    version: Text
    pid: int


class ProcessUnfit(Refusal, type="host.process-unfit.v1"):
    """It was started, and ended by itself or did not answer its readiness probe in time. It does not run."""

    name: Text
    version: Text
    reason: str


class NotWanted(Refusal, type="host.not-wanted.v1"):
    """Of this version nothing is started (any more), or this process was stopped on purpose meanwhile."""

    name: Text
    version: Text
    reason: str


class StartProcess(Command[ProcessStarted], service="host", refuses=(ProcessUnfit, NotWanted)):
    """Done when the process answers its readiness probe. To start what runs already is done at once."""

    name: Text
    version: Text
    settings: dict[str, str] = Field(default_factory=dict, description="its environment variables")


class ProcessStopped(Event, type="host.process-stopped.v1"):
    name: Text
    version: Text


class StopProcess(Command[ProcessStopped], service="host"):
    """Done when it does not run. To stop what does not run is done at once."""

    name: Text
    version: Text


class ProcessDied(Event, type="host.process-died.v1"):
    """A process that should run ended by itself, or was killed. It is its `death`th death; `lately` of them within the last minute."""

    name: Text
    version: Text
    death: int
    lately: int
    at: datetime
    reason: str


class RestartProcess(Command[ProcessStarted], service="host", refuses=(ProcessUnfit, NotWanted)):
    """Start a process again that died; as StartProcess, but refused if it is not wanted any more."""

    name: Text
    version: Text


class Surveyed(Event, type="host.surveyed.v1"):
    """The current version ("" if there is none), and its workers that should run."""

    version: str
    workers: tuple[Text, ...]


class Survey(Command[Surveyed], service="host"):
    """What should run?"""


# --- load, and a person ------------------------------------------------------------------------------------------------------------------


class LoadChanged(Event, type="meter.load-changed.v1"):
    """So many jobs wait, which is too many, or too few, for those who work on them."""

    reading: Text
    waiting: int
    working: int


class LoadRead(Event, type="meter.load-read.v1"):
    waiting: int


class ReadLoad(Command[LoadRead], service="meter"):
    """How many jobs wait now?"""


class SomebodyCalled(Event, type="pager.called.v1"):
    what: str


class CallSomebody(Command[SomebodyCalled], service="pager"):
    """A process dies again and again; a person has to look."""

    name: Text
    version: Text
    what: str

"""Every error this package raises, as one tree; a leaf says what the one who catches it should do.

SagaError
├── Misconfigured      stop; somebody must change a setting or a definition
│   └── DefinitionError    … the saga definition at `where` (file:line)
├── Rejected           the caller's input is not acceptable; repeating it will not help
├── Unreadable         this record cannot be understood; keep it as a dead letter and go on
├── LostOwnership      drop what is in memory for the partition; claim it again if it is still assigned
├── Unavailable        nothing is wrong with what was asked; the outcome is unknown or it was not done; try later
└── Corrupt            stop this partition, loudly; a person must look
    └── InputsLost         … inputs below a position are gone; an operator may accept the loss
"""

from __future__ import annotations


class SagaError(Exception):
    """The root: whatever this package raises on purpose."""


class Misconfigured(SagaError):
    """A setting, a topic or a definition is not as it must be; the process must not start."""


class DefinitionError(Misconfigured):
    """A saga or message definition has a mistake; `where` is its "file:line"."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{where}: {what}")
        self.what = what
        self.where = where


class Rejected(SagaError):
    """What the caller asks is refused, with the reason; asking again the same way gives the same answer."""


class Unreadable(SagaError):
    """A record's bytes or headers are not what the protocol says; `reason` is a short word for the metric."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class LostOwnership(SagaError):
    """Somebody else writes this journal partition now, or may: what is in memory can no longer be trusted."""


class Unavailable(SagaError):
    """The log did not answer in time, or refused for now; an append or publish may or may not have happened."""


class Corrupt(SagaError):
    """The journal contradicts itself or its rules; nothing may be decided on it."""


class InputsLost(Corrupt):
    """Inputs that were not yet decided are gone: retention ran past a position, or a topic was made anew."""

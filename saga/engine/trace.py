"""W3C trace context: which request all of this belongs to (https://www.w3.org/TR/trace-context/, section 3.2).

    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
                    └─ trace id ──────────────────┘ └─ parent id ──┘

The coordinator and the participant kit make no spans of their own, so they hand a traceparent on as it came: whoever does make spans
sees the request's own span as the parent of each. A malformed one is no error, it is as if there were none, and then a trace begins.
"""

from __future__ import annotations

import hashlib
import re

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32}-[0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_TRACE, _NO_PARENT = "0" * 32, "0" * 16


def read(text: str) -> str:
    """A traceparent as it is handed on; "" if it is not valid. One of a later version loses what only that version knows."""
    form = _FORM.fullmatch(text)
    if form is None or form[1] == "ff" or form[2].startswith(_NO_TRACE) or form[2].endswith(_NO_PARENT):
        return ""
    if form[1] == "00":
        return "" if form[4] else text
    return f"00-{form[2]}-{int(form[3], 16) & 1:02x}"


def begin(seed: str) -> str:
    """A new trace. The same seed begins the same one, so what is told again stays in its trace."""
    made = hashlib.blake2b(seed.encode(errors="surrogatepass"), digest_size=24).hexdigest()
    return f"00-{made[:32]}-{made[32:]}-01"


def trace_id(traceparent: str) -> str:
    """The 32 digits that all of a trace have in common; "" if there are none."""
    return read(traceparent)[3:35]

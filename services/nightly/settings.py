"""When it is night. A demo has no time to wait for one, so there NIGHTLY_CRON says that each minute is a night."""

from __future__ import annotations

import os

NIGHT = os.environ.get("NIGHTLY_CRON") or "0 2 * * *"
ZONE = "Europe/Berlin"

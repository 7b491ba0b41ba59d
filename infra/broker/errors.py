"""The one way a broker fails to be there."""

from __future__ import annotations


class BrokerUnavailable(Exception):
    """No broker can be had here; the message says what is missing, or ends with the last lines of its log."""

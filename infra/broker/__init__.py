"""A real Kafka without containers: its pinned Maven artifacts, run by the Java that is there."""

from infra.broker.broker import Broker
from infra.broker.errors import BrokerUnavailable

__all__ = ["Broker", "BrokerUnavailable"]

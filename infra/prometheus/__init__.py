"""A real Prometheus, from Debian's package: the machine's own, or the one that infra/prepare.sh unpacked into .cache."""

from infra.prometheus.server import Prometheus, PrometheusUnavailable, program

__all__ = ["Prometheus", "PrometheusUnavailable", "program"]

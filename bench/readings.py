"""What is read before and after a stretch of time: the processor time of processes, and an orchestrator's histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families


class Spending:
    """The processor time of processes since this was made, by role: user and system, all threads, in ticks of 10 ms."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {role: psutil.Process(pid) for role, pid in pids.items()}
        self._before, self._machine_before = self._read(), _machine()

    def seconds(self) -> dict[str, float]:
        return {role: now - self._before[role] for role, now in self._read().items()}

    def others(self) -> float:
        """The share of the machine, 0 to 1, that went to processes that are not among these.

        Above a few hundredths the machine was not the bench's alone, and what it took the time of is too slow.
        """
        worked, there_was = (now - before for now, before in zip(_machine(), self._machine_before, strict=True))
        return max(0.0, worked - sum(self.seconds().values())) / max(there_was, 0.01)

    def _read(self) -> dict[str, float]:
        return {role: sum(process.cpu_times()[:2]) for role, process in self._processes.items()}


def _machine() -> tuple[float, float]:
    """The time that all cores together have worked so far, for whomever, and the time there was."""
    times = psutil.cpu_times()
    there_was = sum(times[:8])  # guests' time, which may follow, is in the first already
    return there_was - times.idle - getattr(times, "iowait", 0.0), there_was


def memory_bytes(pid: int) -> int:
    """The resident memory of a process."""
    return int(psutil.Process(pid).memory_info().rss)


def total(metrics: str, name: str) -> float:
    """A counter or a gauge of what /metrics says, its labels added up; `name` as it stands there."""
    found = text_string_to_metric_families(metrics)
    return float(sum(sample.value for family in found for sample in family.samples if sample.name == name))


@dataclass(frozen=True)
class Histogram:
    """Buckets by their upper bound, cumulative, as Prometheus has them; `sum` of all values."""

    buckets: Mapping[float, float]
    sum: float

    @staticmethod
    def read(metrics: str, name: str) -> Histogram:
        """One series of what /metrics says; its labels are added up."""
        buckets: dict[float, float] = {}
        total = 0.0
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples if family.name == name else ():
                if sample.name == f"{name}_bucket":
                    bound = float(sample.labels["le"])
                    buckets[bound] = buckets.get(bound, 0.0) + sample.value
                elif sample.name == f"{name}_sum":
                    total += sample.value
        return Histogram(buckets, total)

    def since(self, before: Histogram) -> Histogram:
        """What was added after `before` was read."""
        return Histogram({le: count - before.buckets.get(le, 0.0) for le, count in self.buckets.items()}, self.sum - before.sum)

    @property
    def count(self) -> float:
        return self.buckets.get(float("inf"), 0.0)

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """As Prometheus' histogram_quantile: even within a bucket; the last finite bound if it lies beyond."""
        wanted, lower, below = share * self.count, 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= wanted and count > below:
                return lower if bound == float("inf") else lower + (bound - lower) * (wanted - below) / (count - below)
            lower, below = (lower if bound == float("inf") else bound), count
        return lower


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above (nearest rank); 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] if ordered else 0.0


def rounded(value: Any, digits: int = 3) -> Any:
    """The same with every float rounded, for people to read."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, Mapping):
        return {name: rounded(each, digits) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    return value

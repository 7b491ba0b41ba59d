"""Which partition a key lives in: murmur2(key) mod P, as the Java client's default partitioner computes it.

Written out here, since client libraries differ in their defaults (librdkafka's is another), and a key that changed its partition
would be two sagas.
"""

from __future__ import annotations

from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=65_536)
def home(key: str, partitions: int) -> int:
    """The home partition of a key, 0 ≤ home < partitions (org.apache.kafka.common.utils.Utils.murmur2, toPositive)."""
    return home_of_bytes(key.encode(), partitions)


def home_of_bytes(key: bytes, partitions: int) -> int:
    """The same for a record's key, which may be no text."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length & 3:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15

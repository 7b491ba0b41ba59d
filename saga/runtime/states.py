"""The instances of one partition: as bytes at rest, and those that were lately decided also as they are in memory.

Bytes, since 100,000 instances that wait for a reply must fit; as they are, since an instance that is decided now is most likely decided
again within milliseconds, and to write and read it each time takes as long as to decide it. So bytes are made when somebody asks for
them, or when an instance has not been touched for a while. Whoever looks, sees bytes: this is a Mapping from slot to bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from saga.engine.state import Instance
from saga.runtime.codec import decode_instance, encode_instance

LARGE = 32 * 1024  # bytes: a larger one is not kept as it is
WARM = 2000  # instances kept as they are, of one partition; some 4 KB each
UNMEASURED = 2**62  # bytes: nobody has looked yet


class Slot(NamedTuple):
    """An instance is found by its saga and key: there is one run of it at a time."""

    saga: str
    key: str


class Held(NamedTuple):
    """An instance as it is, and at most how many bytes it takes."""

    state: Instance
    bound: int


class States(Mapping[Slot, bytes]):
    def __init__(self) -> None:
        self._bytes: dict[Slot, bytes | None] = {}  # None: only in `_warm`, so far
        self._warm: dict[Slot, Held] = {}  # the one touched last is the last

    def __getitem__(self, slot: Slot) -> bytes:
        encoded = self._bytes[slot]
        if encoded is None:
            state = self._warm[slot].state
            encoded = self._bytes[slot] = encode_instance(state)
            self._warm[slot] = Held(state, len(encoded))
        return encoded

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._bytes)

    def __len__(self) -> int:
        return len(self._bytes)

    def __contains__(self, slot: object) -> bool:
        return slot in self._bytes

    def held(self, slot: Slot) -> Held | None:
        """An instance as it is, for reading: it is not to be changed."""
        held = self._warm.get(slot)
        if held is None and (encoded := self._bytes.get(slot)) is not None:
            held = Held(decode_instance(encoded), len(encoded))
        return held

    def put(self, slot: Slot, held: Held) -> None:
        """An instance as it is now. Nobody may change it any more."""
        if LARGE < held.bound < UNMEASURED:
            self.put_bytes(slot, encode_instance(held.state))
            return
        self._bytes[slot] = None
        self._warm.pop(slot, None)
        self._warm[slot] = held
        if len(self._warm) > WARM:
            oldest = next(iter(self._warm))
            self[oldest]  # its bytes
            del self._warm[oldest]

    def put_bytes(self, slot: Slot, encoded: bytes) -> None:
        self._bytes[slot] = encoded
        self._warm.pop(slot, None)

    def forget(self, slot: Slot) -> None:
        self._bytes.pop(slot, None)
        self._warm.pop(slot, None)

"""Waking those who wait for news, in this process and in others, without asking the file again and again.

Each client has a FIFO in the log's folder; whoever has committed writes the ids of what changed into every one. A byte in a pipe
wakes its reader within a tenth of a millisecond, and a process that waits costs nothing. (Watching PRAGMA data_version instead
costs a read some hundred times a second in each process, or the latency of asking less often.)

A ring is a hint and may be lost: its writer may die between commit and ring, a pipe may be full. So the client looks at
data_version too, but rarely. FIFOs of the dead have no reader; whoever finds one removes it. Those of this client are rung like
all others: there is one way only.
"""

from __future__ import annotations

import asyncio
import errno
import os
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_AT_ONCE = 512  # ids: 4096 bytes, which even the smallest PIPE_BUF in use writes as one piece
_READ = 64 * 1024  # bytes: as much as a pipe holds


class Bell:
    """Rings, and is rung. `ring` may be called from one thread of its own, everything else in the loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1
        self._path = folder
        self._others: dict[str, int] = {}
        self._listening: defaultdict[int, set[asyncio.Future[None]]] = defaultdict(set)

    def open(self) -> None:
        """Raises OSError where the file system has no FIFOs."""
        self._folder.mkdir(exist_ok=True)
        name = f"{os.getpid()}-{uuid4().hex[:12]}"
        draft, self._path = self._folder / f".{name}", self._folder / name
        os.mkfifo(draft)
        self._file = os.open(draft, os.O_RDWR | os.O_NONBLOCK)  # also for writing, or it is at its end when nobody else has it
        draft.rename(self._path)  # only now: whoever finds one without a reader removes it
        asyncio.get_running_loop().add_reader(self._file, self._rung)

    def close(self) -> None:
        """In the loop, when nobody rings any more."""
        if self._file >= 0:
            asyncio.get_running_loop().remove_reader(self._file)
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1
        for name in list(self._others):
            os.close(self._others.pop(name))
        self.wake()

    @property
    def awaited(self) -> bool:
        return bool(self._listening)

    @contextmanager
    def listening(self, ids: Collection[int]) -> Iterator[asyncio.Future[None]]:
        """A future that is done when one of these has changed since. Begin to listen before you look."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for each in ids:
            self._listening[each].add(news)
        try:
            yield news
        finally:
            for each in ids:
                self._listening[each].discard(news)
                if not self._listening[each]:
                    del self._listening[each]
            news.cancel()

    def wake(self) -> None:
        """Let all look who listen."""
        for waiting in self._listening.values():
            for news in waiting:
                _done(news)

    def ring(self, changed: Collection[int]) -> None:
        """Tell everybody that these have changed."""
        with suppress(FileNotFoundError):  # the folder was removed: nobody is left to be told
            names = {name for name in os.listdir(self._folder) if not name.startswith(".")}
            for gone in self._others.keys() - names:
                os.close(self._others.pop(gone))
            ids = list(changed)
            for name in names:
                for at in range(0, len(ids), _AT_ONCE):
                    self._send(name, array("q", ids[at : at + _AT_ONCE]).tobytes())

    def _send(self, name: str, message: bytes) -> None:
        try:
            if name not in self._others:
                self._others[name] = os.open(self._folder / name, os.O_WRONLY | os.O_NONBLOCK)
            os.write(self._others[name], message)
        except BlockingIOError:
            pass  # full: its reader is stopped or far behind, and will look by itself
        except OSError as error:
            if (file := self._others.pop(name, -1)) >= 0:
                os.close(file)
            if error.errno in (errno.ENXIO, errno.EPIPE):  # nobody reads it: its process is dead
                with suppress(OSError):
                    (self._folder / name).unlink()

    def _rung(self) -> None:
        with suppress(BlockingIOError):
            for each in set(array("q", os.read(self._file, _READ))):
                for news in self._listening.get(each, ()):
                    _done(news)


def _done(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)

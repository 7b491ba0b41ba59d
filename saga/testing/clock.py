"""An event loop whose time is virtual: an hour of waiting takes no time, and a seed decides who goes first.

Problem: code that waits (time-outs, back-off, group time-outs) is slow to test, and its races come up by chance, never twice.
Naive way: pass a clock and a sleep function to everything. It fails since asyncio's own time-outs know only the loop's time, and the
order in which ready callbacks run is still the one order asyncio happens to have.
Way taken: the loop itself. When nothing is ready, time jumps to the next timer. With a seed, what is ready runs in a drawn order:
asyncio promises none between tasks. There is no I/O and no thread, so a run depends on its seed alone; a function given to an
executor runs at once, inside the loop.

A `Process` is all that was begun inside one simulated process. Frozen, not one line of it runs, wherever it awaits: a crash if it is
left so (no `finally` runs), a SIGSTOP if it is thawed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_ROUNDS = 100  # how often a task is cancelled at the end of a run before it counts as one that refuses to end
_TURNS = 1000  # how many turns of the loop a cancelled task gets for its clean-up


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: the tasks that are left wait for one another, or for nobody."""


_process: ContextVar[Process | None] = ContextVar("process", default=None)


class _NoInput:
    """The selector of a loop without I/O: where a real one would block, time jumps."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None or timeout > 0:
            self._loop.pass_time()
        return []


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """`time()` begins at 0 and is in seconds. With a seed, callbacks that are ready at once run in an order drawn from it.

    Raises Deadlock from `run_forever` and `run_until_complete` when nothing can ever happen again. No sockets, pipes,
    subprocesses or signals.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._now = 0.0
        self._until: float | None = None
        self._clock_resolution = 1e-9
        self._selector = _NoInput(self)
        self._order = Random(seed) if seed is not None else None
        self._made = 0
        self._tasks: list[asyncio.Task[Any]] = []  # held: a task that nobody else holds would end whenever memory is collected
        self._prune_at = 100
        self._frozen: list[Process] = []
        self._nothing = asyncio.Handle(_nothing, (), self)

    def time(self) -> float:
        return self._now

    def pass_time(self) -> None:
        """Nothing is ready: go to the time of the next timer, or stop if that is later than `play` may go."""
        due = self._scheduled[0].when() if self._scheduled else None  # the base class has dropped what was cancelled before it
        if self._until is not None and (due is None or due > self._until):
            self.stop()
        elif due is None:
            raise Deadlock(self.describe_waiting())
        else:
            self._now = max(self._now, due)

    def next_timer(self) -> float | None:
        """When the next timer is due, in seconds of this loop; for those who call `play`."""
        return min((timer.when() for timer in self._scheduled if not timer.cancelled()), default=None)

    def play(self, until: float) -> None:
        """Run all that happens up to this time, and stop there with everything as it is; the next call goes on."""
        self._until = until
        try:
            self.run_forever()
        finally:
            self._until = None
        self._now = max(self._now, until)

    def create_task(
        self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], *, name: object = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        self._made += 1
        label = str(name) if name is not None else f"task {self._made}"  # numbered per loop: the same in every run
        task: asyncio.Task[T] = super().create_task(coro, name=label, context=context)
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self._tasks = self.unfinished()
            self._prune_at = 2 * len(self._tasks) + 100
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: concurrent.futures.Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run the function now; its result is there a turn later, so that others may run in between as with a thread."""
        del executor
        answer: asyncio.Future[T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:
            self.call_soon(_settle, answer, answer.set_exception, error)
        else:
            self.call_soon(_settle, answer, answer.set_result, result)
        return answer

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, in the order they were made."""
        return [task for task in self._tasks if not task.done()]

    def describe_waiting(self) -> str:
        places = [f"\n  {task.get_name()} at {_place(task)}" for task in self.unfinished()]
        return f"at {self._now:.3f} s nothing is ready and no timer is set; these wait for ever:{''.join(places) or ' (no task)'}"

    def finish(self) -> None:
        """Cancel what is left and run its clean-up, with no time passing; a task that waits again is cancelled again.

        Frozen processes too: their `finally` blocks run now, when nobody looks any more.
        Raises RuntimeError if a task still goes on after a hundred times.
        """
        for process in list(self._frozen):
            process.thaw()
        self._cancel_all()
        self.create_task(self.shutdown_asyncgens())
        self._drain()
        self._cancel_all()

    def _cancel_all(self) -> None:
        for _ in range(_ROUNDS):
            left = self.unfinished()
            if not left:
                return
            for task in left:
                task.cancel("the run is over")
            self._drain()
        raise RuntimeError(f"these tasks do not end when cancelled: {', '.join(task.get_name() for task in self.unfinished())}")

    def _drain(self) -> None:
        for _ in range(_TURNS):
            if not self._ready:
                return
            self.call_soon(self.stop)
            self.run_forever()

    def _process_events(self, event_list: list[object]) -> None:
        """Called by the base class in each turn before it runs what is ready: due timers are in its order too."""
        del event_list
        while self._scheduled and self._scheduled[0].when() < self._now + self._clock_resolution:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]  # as the base class does
            self._ready.append(timer)
        self.set_aside()
        if self._order is not None and len(self._ready) > 1:
            ready = list(self._ready)
            self._order.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)

    def set_aside(self) -> None:
        """Take what belongs to frozen processes out of what is ready, at its place: the base class has counted already."""
        if not self._frozen:
            return
        for place, handle in enumerate(self._ready):
            owner = handle._context.get(_process)  # type: ignore[attr-defined]
            if owner is not None and owner.frozen:
                owner.aside.append(handle)
                self._ready[place] = self._nothing

    def _write_to_self(self) -> None:
        """Nothing to wake: the loop never blocks."""


class Process:
    """All tasks and callbacks begun by `start` and, in turn, by them. To be made inside a running VirtualTimeLoop."""

    def __init__(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualTimeLoop):
            raise TypeError("a simulated process needs a VirtualTimeLoop")
        self.name = name
        self.frozen = False
        self.aside: list[asyncio.Handle] = []  # what would have run, in order
        self._loop = loop

    def start(self, main: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Run a coroutine as part of this process."""
        context = Context()
        context.run(_process.set, self)
        return self._loop.create_task(main, name=f"{self.name} {name}".rstrip(), context=context)

    def freeze(self) -> None:
        """From now on not one more step of it runs (what calls this, if it is of the process itself, runs to its next await)."""
        if not self.frozen:
            self.frozen = True
            self._loop._frozen.append(self)
            self._loop.set_aside()

    def thaw(self) -> None:
        """Go on: all that became due meanwhile runs now."""
        if self.frozen:
            self.frozen = False
            self._loop._frozen.remove(self)
            self._loop._ready.extend(self.aside)
            self.aside = []


def run(main: Coroutine[Any, Any, T], *, seed: int | None = None) -> T:
    """Run a coroutine to its end under virtual time, cancel what it left behind, and give its result.

    Raises what it raises, and Deadlock if it can never end.
    """
    loop = VirtualTimeLoop(seed)
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            loop.finish()
        finally:
            loop.close()


def _settle(answer: asyncio.Future[T], settle: Callable[[Any], None], value: object) -> None:
    if not answer.done():
        settle(value)


def _nothing() -> None:
    """Runs in place of a step of a frozen process."""


def _place(task: asyncio.Task[Any]) -> str:
    """Where a task waits: file and line of the innermost coroutine."""
    found = "?"
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
        if frame is not None:
            found = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    return found

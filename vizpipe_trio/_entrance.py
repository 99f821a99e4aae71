"""The way into the pipe: bounded, from any thread, and never in the way of who emits.

It is a deque and not a memory channel. So `Entrance.emit` is one length check and one
append, which costs less than a bare ``send_nowait``; a full entrance answers without
raising; and all threads share one order and one bound. What waits at the other end is
told only when it needs to be: ``alarm`` is the fill level at which an emit wakes it,
the capacity itself while it is awake.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock, get_ident
from time import perf_counter
from typing import NamedTuple, Protocol

import trio

from ._event import Event
from ._report import FaultReport

DEFAULT_CAPACITY = 1000

DEEPEST_CALL = 100
"""Frames that are looked at to see who emits: more would take too long."""


class DropMetric(Protocol):
    """What counts dropped events in the host's own metrics."""

    def inc(self) -> None:
        """Count one event that was dropped at the pipe's entrance.

        Called on the hot path, in the thread that emits: it must not block. What it
        raises is logged and goes no further.
        """


class Counts(NamedTuple):
    """An entrance's account: ``emitted`` are those below and those already taken."""

    emitted: int
    overflowed: int  # dropped because it was full
    refused: int  # dropped because nobody would have taken them
    waiting: int


class Entrance:
    """A bounded queue of events that any thread may fill and one Trio task empties.

    That task's thread uses it as it is. All others, and everybody while there is no such
    task, hold the lock: a reentrant one, so that a finalizer or a signal handler which
    emits in the middle of an emit does not hang. A thread that is between its look and
    its append can take the queue one over its capacity.

    Args:
        capacity: How many events may wait; 0 or less means 1000.
        metric: Told of each event that is dropped.
        faults: Told what went wrong, since who emits must not be.

    Attributes:
        capacity: How many events may wait.
        waiting: The events that wait, oldest first. Its task takes them from the left.
        token: The run of Trio in which a task attends to it, if there is one.
    """

    def __init__(self, capacity: int, metric: DropMetric | None, faults: FaultReport) -> None:
        self.capacity = capacity if capacity > 0 else DEFAULT_CAPACITY
        self.waiting: deque[Event] = deque()
        self._metric = metric
        self._faults = faults
        self._lock = RLock()
        self._closed = False  # for good
        self._left = False  # by its task, which may come back
        self._room = self.capacity  # none, once it is closed or left
        self._thread: int | None = None
        self.token: trio.lowlevel.TrioToken | None = None
        self._alarm = self.capacity
        self._alarmed_at = 0.0
        self._sleeper: list[trio.lowlevel.Task] = []  # at most one, and who pops it wakes it
        # Each of the two ways in has counts of its own, since += is not atomic.
        self._emitted = self._emitted_elsewhere = 0
        self._overflowed = self._overflowed_elsewhere = 0
        self._refused = 0
        self._refused_meanwhile = 0  # so far, between two tasks that attended to it

    def emit(self, event: Event) -> bool:
        """Queue an event, or count it as dropped. Never blocks or raises, any thread.

        Call it under KI protection, so that no Ctrl-C comes between event and count.
        """
        waiting = self.waiting
        try:
            if get_ident() == self._thread:
                self._emitted += 1
                level = len(waiting)
                if level < self._alarm:
                    waiting.append(event)
                    return True
                if level >= self.capacity:
                    self._overflowed += 1
                else:
                    waiting.append(event)
                    if self._ring() or not self._take_back(event):
                        return True
            else:
                with self._lock:
                    self._emitted_elsewhere += 1
                    level = len(waiting)
                    has_room = level < self._room
                    if has_room:
                        waiting.append(event)
                    elif self.closed:
                        self._refused += 1
                    else:
                        self._overflowed_elsewhere += 1
                # First the event, then the look at the alarm. rest() does it the other
                # way round, so one of the two always sees the other.
                if has_room and (level < self._alarm or self.rouse() or not self._take_back(event)):
                    return True
        except MemoryError as error:  # from append(): all else looks after itself
            with self._lock:
                self._overflowed_elsewhere += 1  # which viewers are told of
            self._faults.note("there was no memory to queue an event", error)
        if self._metric is not None:
            self._tell(self._metric)
        return False

    def _ring(self) -> bool:
        """Have the task's rest ended by who emits in its thread; say whether Trio is still there."""
        try:
            if _is_call_by_a_task(other_than=self._sleeper):
                self._alarmed_at = min(self._alarmed_at, perf_counter())
                self._alarm = self.capacity
                self._wake()
                return True
        except Exception as error:
            self._faults.note_own("the pipe could not see who emits", error)
        return self.rouse()

    def rouse(self) -> bool:
        """Have the task's rest ended; say whether Trio is still there to do it. Any thread.

        Not under the lock. Trio has one of its own for this, and a finalizer or a signal handler
        that comes while it is held may emit: then each thread would wait for the other's for ever.
        """
        self._alarmed_at = min(self._alarmed_at, perf_counter())
        self._alarm = self.capacity
        token = self.token
        try:
            if token is not None:
                token.run_sync_soon(self._wake, idempotent=True)
        except trio.RunFinishedError:
            return self.token is not token  # or else Trio crashed, and attend() was never unwound
        except Exception as error:
            self._alarm = 0  # the next one tries again
            self._faults.note_own("the pipe could not be woken", error)
        return True

    def _take_back(self, event: Event) -> bool:
        """Refuse an event after all, since Trio has crashed; say whether nobody had taken it before."""
        with self._lock:
            for place in reversed(range(len(self.waiting))):
                if self.waiting[place] is event:
                    del self.waiting[place]
                    self._refused += 1
                    return True
        return False

    def _tell(self, metric: DropMetric) -> None:
        try:
            metric.inc()
        except Exception as error:
            self._faults.note("metric.inc() raised", error)

    def counts(self) -> Counts:
        """Return the account so far."""
        with self._lock:
            return Counts(
                emitted=self._emitted + self._emitted_elsewhere,
                overflowed=self.overflowed,
                refused=self._refused,
                waiting=len(self.waiting),
            )

    @property
    def overflowed(self) -> int:
        """Events dropped so far because it was full."""
        return self._overflowed + self._overflowed_elsewhere

    @property
    def dropped(self) -> int:
        """Events dropped so far of which clients are to be told: not those after the end."""
        return self.overflowed + self._refused_meanwhile

    @property
    def ended(self) -> bool:
        """Whether it was closed, for good."""
        return self._closed

    @property
    def closed(self) -> bool:
        """Whether events are dropped because nobody will take them."""
        return self._closed or self._left

    def close(self) -> None:
        """Drop what is emitted from now on, and wake the task. Idempotent, any thread.

        Also in a signal handler: the task is woken by way of Trio's own queue.
        """
        with self._lock:
            self._closed = True
            self._room = 0
            self._thread = None
        self.rouse()

    @property
    def attended(self) -> bool:
        """Whether a task attends to it."""
        return self.token is not None

    @contextmanager
    def attend(self) -> Generator[None]:
        """Let the current task take events while in the block; one task at a time.

        When the block ends without a `close`, events are dropped until it is entered
        again.
        """
        with self._lock:
            self._left = False
            if not self._closed:
                self._room = self.capacity
                self._refused_meanwhile = self._refused
            self.token = trio.lowlevel.current_trio_token()
            self._thread = None if self._closed else get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._left = True
                self._room = 0
                self.token = self._thread = None

    async def rest(self, *, alarm: int, seconds: float) -> float:
        """Sleep until more than ``alarm`` events wait, `rouse` is called, or time is up.

        A checkpoint. For the task that attends to it.

        Returns:
            How long ago it was to end, in seconds: until then the host's tasks had the thread.
        """
        self._alarmed_at = math.inf
        # In this order: who emits in the middle of this, from a finalizer or a signal handler,
        # sees that there is somebody to be woken.
        self._sleeper.append(trio.lowlevel.current_task())
        self._alarm = alarm
        if len(self.waiting) > alarm or self._closed or seconds <= 0:
            self._sleeper.clear()
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_after(seconds):
                await trio.lowlevel.wait_task_rescheduled(self._stop_sleeping)
        self._alarm = self.capacity
        return max(perf_counter() - self._alarmed_at, 0.0)

    def _stop_sleeping(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self._sleeper.clear()
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        with suppress(IndexError):
            trio.lowlevel.reschedule(self._sleeper.pop())


def _is_call_by_a_task(other_than: Sequence[trio.lowlevel.Task]) -> bool:
    """Whether a task's own code calls, so that it is safe to reschedule another task.

    A finalizer or a signal handler may run, and emit, in the middle of Trio's own work. Then
    there is a frame of Trio's between here and the task's first, or no task at all, and only
    Trio's queue for other threads is safe.
    """
    try:
        task = trio.lowlevel.current_task()
    except RuntimeError:
        return False
    first = getattr(task.coro, "cr_frame", None)
    frame = sys._getframe(1)
    for _ in range(DEEPEST_CALL):
        if frame is first:
            return task not in other_than
        if str(frame.f_globals.get("__name__")).startswith("trio._core") or frame.f_back is None:
            break
        frame = frame.f_back
    return False

"""The way into the pipe: bounded, from any thread, and never in the way of who emits.

It is a deque and not a memory channel. So `Entrance.emit` is one length check and one
append, which costs less than a bare ``send_nowait``; a full entrance answers without
raising; and all threads share one order and one bound. What waits at the other end is
told only when it needs to be: ``alarm`` is the fill level at which an emit wakes it,
the capacity itself while it is awake.
"""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import NamedTuple, Protocol

import trio

from ._event import Event

DEFAULT_CAPACITY = 1000


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
        fault: Told what ``metric.inc()`` raised.

    Attributes:
        capacity: How many events may wait.
        waiting: The events that wait, oldest first. Its task takes them from the left.
    """

    def __init__(
        self,
        capacity: int,
        metric: DropMetric | None,
        fault: Callable[[str, Exception], None],
    ) -> None:
        self.capacity = capacity if capacity > 0 else DEFAULT_CAPACITY
        self.waiting: deque[Event] = deque()
        self._metric = metric
        self._fault = fault
        self._lock = RLock()
        self._closed = False  # for good
        self._left = False  # by its task, which may come back
        self._thread: int | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._alarm = self.capacity
        self._wakeup: trio.Event | None = None
        # Each of the two ways in has counts of its own, since += is not atomic.
        self._emitted = self._emitted_elsewhere = 0
        self._overflowed = self._overflowed_elsewhere = 0
        self._refused = 0

    def emit(self, event: Event) -> bool:
        """Queue an event, or count it as dropped. Never blocks or raises, any thread.

        Call it under KI protection, so that no Ctrl-C comes between event and count.
        """
        if get_ident() != self._thread:
            return self._emit_elsewhere(event)
        self._emitted += 1
        waiting = len(self.waiting)
        if waiting < self._alarm:
            self.waiting.append(event)
            return True
        if waiting < self.capacity:
            self.waiting.append(event)
            self._sound_alarm()
            return True
        self._overflowed += 1
        self._tell_metric()
        return False

    def _emit_elsewhere(self, event: Event) -> bool:
        with self._lock:
            self._emitted_elsewhere += 1
            waiting = len(self.waiting)
            if self._closed or self._left:
                self._refused += 1
            elif waiting >= self.capacity:
                self._overflowed_elsewhere += 1
            else:
                # First the event, then the look at the alarm. rest() does it the other way
                # round, so one of the two always sees the other.
                self.waiting.append(event)
                if waiting < self._alarm or self._sound_alarm():
                    return True
                self.waiting.pop()
                self._refused += 1
        self._tell_metric()
        return False

    def _sound_alarm(self) -> bool:
        """Have the task woken; say whether Trio is still there to do it.

        Also in Trio's own thread by way of Trio's queue for others: a signal handler or a
        finalizer may emit in the middle of Trio's own work, where nothing else is safe.
        """
        self._alarm = self.capacity
        try:
            if self._token is not None:
                self._token.run_sync_soon(self._wake, idempotent=True)
        except trio.RunFinishedError:
            return False  # Trio crashed, and attend() was never unwound
        return True

    def _tell_metric(self) -> None:
        if self._metric is not None:
            try:
                self._metric.inc()
            except Exception as error:
                self._fault("metric.inc() raised", error)

    def counts(self) -> Counts:
        """Return the account so far."""
        with self._lock:
            return Counts(
                emitted=self._emitted + self._emitted_elsewhere,
                overflowed=self._overflowed + self._overflowed_elsewhere,
                refused=self._refused,
                waiting=len(self.waiting),
            )

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
            self._thread = None
            self._sound_alarm()

    @property
    def attended(self) -> bool:
        """Whether a task attends to it."""
        return self._token is not None

    @contextmanager
    def attend(self) -> Generator[None]:
        """Let the current task take events while in the block; one task at a time.

        When the block ends without a `close`, events are dropped until it is entered
        again.
        """
        with self._lock:
            self._left = False
            self._token = trio.lowlevel.current_trio_token()
            self._thread = None if self._closed else get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._left = True
                self._token = self._thread = None

    async def rest(self, *, alarm: int, seconds: float) -> None:
        """Sleep until more than ``alarm`` events wait, it is closed, or time is up.

        A checkpoint. For the task that attends to it.
        """
        self._wakeup = trio.Event()
        self._alarm = alarm
        if len(self.waiting) > alarm or self._closed or seconds <= 0:
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_after(seconds):
                await self._wakeup.wait()
        self._alarm = self.capacity
        self._wakeup = None

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()

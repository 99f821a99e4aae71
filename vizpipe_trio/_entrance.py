"""The way into the pipe: bounded, from any thread, and never in the way of who emits.

It is a deque and not a memory channel. So `Entrance.emit` is one length check and one
append, which costs less than a bare ``send_nowait``; a full entrance answers without
raising; and all threads share one order and one bound. What waits at the other end is
told only when it needs to be: ``alarm`` is the fill level at which an emit wakes it,
the capacity itself while it is awake.
"""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from threading import RLock, get_ident
from typing import Protocol

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


class Entrance:
    """A bounded queue of events that any thread may fill and one Trio task empties.

    That task's thread uses it as it is. All others, and everybody while there is no such
    task, hold the lock: a reentrant one, so that a signal handler or a finalizer which
    emits in the middle of an emit does not hang. Such an emit, and a thread that is
    between its look and its append, can take the queue one over its capacity.

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
        self._room = self.capacity  # none when events are dropped because nobody will take them
        self._thread: int | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._alarm = self.capacity
        self._wakeup: trio.Event | None = None
        # Each of the two ways in has counts of its own, since += is not atomic.
        self._emitted = self._emitted_elsewhere = 0
        self._dropped = self._dropped_elsewhere = 0

    @trio.lowlevel.enable_ki_protection
    def emit(self, event: Event) -> bool:
        """Queue an event, or count it as dropped. Never blocks or raises, any thread."""
        if get_ident() != self._thread:
            return self._emit_elsewhere(event)
        self._emitted += 1
        if len(self.waiting) >= self._alarm:
            return self._emit_at_alarm(event)
        self.waiting.append(event)
        return True

    def _emit_at_alarm(self, event: Event) -> bool:
        if len(self.waiting) >= self.capacity:
            self._dropped += 1
            self._tell_metric()
            return False
        self.waiting.append(event)
        self._wake()
        return True

    @trio.lowlevel.enable_ki_protection
    def _emit_elsewhere(self, event: Event) -> bool:
        with self._lock:
            self._emitted_elsewhere += 1
            waiting = len(self.waiting)
            if waiting < self._room:
                # First the event, then the look at the alarm. rest() does it the other way
                # round, so one of the two always sees the other.
                self.waiting.append(event)
                if waiting < self._alarm or self._wake_from_elsewhere():
                    return True
                self.waiting.pop()
            self._dropped_elsewhere += 1
        self._tell_metric()
        return False

    def _wake_from_elsewhere(self) -> bool:
        """Have the task woken; say whether Trio is still there to do it."""
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

    def counts(self) -> tuple[int, int, int]:
        """Return how many events were emitted, were dropped, and wait."""
        with self._lock:
            return (
                self._emitted + self._emitted_elsewhere,
                self._dropped + self._dropped_elsewhere,
                len(self.waiting),
            )

    @property
    def closed(self) -> bool:
        """Whether events are dropped because nobody will take them."""
        return self._room == 0

    def close(self) -> None:
        """Drop what is emitted from now on, and wake the task. Idempotent, any thread.

        Also in a signal handler: the task is woken by way of Trio's own queue.
        """
        with self._lock:
            self._closed = True
            self._room = 0
            self._thread = None
            token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._wake, idempotent=True)

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
            self._token = trio.lowlevel.current_trio_token()
            if not self._closed:
                self._room = self.capacity
                self._thread = get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._room = 0
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
        self._alarm = self.capacity
        if self._wakeup is not None:
            self._wakeup.set()

"""One client of a pipe: a task's way to its queue."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import trio

from ._batch import Batch, EventFilter, Gap
from ._client import ClientQueue
from ._event import Event
from ._filter import FieldFilter
from ._sight import Seen
from ._sse import KEEP_ALIVE, MAX_WRITE

Parcel = list[tuple[int, Batch, Gap]]
"""What a client is handed in one go. In order: how many events were broadcast, those of
them that it wants, and what was lost behind them."""


class Subscription:
    """One client's way to a pipe's events: an async iterator, and its account.

    Made by `Pipe.subscribe`. Registered from the start; leaving the ``with`` block
    (or `close`) takes it off. Iterating gives each event that is broadcast after it
    was made, in order, and ends when the pipe ends and the queue is empty. Cancelling
    the iteration loses nothing: it can be taken up again. One task at a time may wait.

    ``offered == delivered + missed + filtered + queued`` at any moment.
    """

    # A client waits in as few objects as can be, since each wait makes them anew: with thousands
    # of clients, their number decides how often a garbage collection stops the whole process.

    def __init__(
        self,
        queue: ClientQueue,
        heartbeat_interval: float,
        leave: Callable[["Subscription"], None],
        fell_silent: Callable[["Subscription"], bool],
    ) -> None:
        self._queue = queue
        self._heartbeat_interval = heartbeat_interval
        self._leave = leave
        self._fell_silent = fell_silent
        self._reader: trio.lowlevel.Task | None = None  # while it waits
        self._token: trio.lowlevel.TrioToken | None = None  # of those who wait
        self._max_write = MAX_WRITE
        self._ended = False
        self._closed = False
        self._seen: Seen = ()  # while it may be ahead of its pipe
        # The same for clients that share the work; none of the host's code runs to compare it.
        self._filter_key = queue.filter if type(queue.filter) is FieldFilter else id(queue.filter)

    @property
    def heartbeat_interval(self) -> float:
        """Seconds of silence after which `receive_bytes` returns a comment; infinity for never."""
        return self._heartbeat_interval

    @property
    def filter(self) -> EventFilter | None:
        """Which events it wants; None for all."""
        return self._queue.filter

    @property
    def offered(self) -> int:
        """Events broadcast since it joined."""
        return self._queue.offered

    @property
    def delivered(self) -> int:
        """Events it has taken."""
        return self._queue.delivered

    @property
    def missed(self) -> int:
        """Events it has lost so far because its queue was full, the run was cancelled, or a fault hit it.

        Those dropped at the pipe's entrance were never offered to anyone; they are
        in `PipeStatistics.dropped`, and a stream is told of them.
        """
        return self._queue.missed

    @property
    def filtered(self) -> int:
        """Events it had not asked for."""
        return self._queue.filtered

    @property
    def queued(self) -> int:
        """Events that wait to be taken; those it left behind, once it is closed."""
        return self._queue.queued

    def __enter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C in between would leave a client for ever
    def close(self) -> None:
        """Leave the pipe, and let go of what is queued. Idempotent, no checkpoint.

        A task that iterates gets `trio.ClosedResourceError`.
        """
        if not self._closed:
            self._closed = True
            self._leave(self)
            self._queue.clear()
            self._wake()

    def __aiter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> Event:
        """Return the next event; a checkpoint.

        Raises:
            StopAsyncIteration: The pipe has ended, and all that was queued is taken.
            trio.BusyResourceError: Another task is waiting already.
            trio.ClosedResourceError: The subscription was closed.
            RuntimeError: The pipe runs in another run of Trio than this task.
        """
        while True:
            await self._until_ready()
            event = self._queue.take_event()
            if event is not None:
                return event
            self._check_open()
            if self._ended:
                raise StopAsyncIteration

    @trio.lowlevel.enable_ki_protection
    async def receive_bytes(self, max_bytes: int | None = None) -> bytes:
        """Return what is queued as frames of an event stream, for one write; a checkpoint.

        Gaps are in their place as ``missed`` events. Shares its bytes with other clients
        where it can. When nothing came for ``heartbeat_interval``, it is a comment.

        Args:
            max_bytes: How much at most, but always one event. By default what its pipe finds
                right: 64 KiB, or up to 256 KiB while that has too much to write.

        Raises:
            trio.EndOfChannel: The pipe has ended, and all that was queued is taken.
            trio.BusyResourceError: Another task is waiting already.
            trio.ClosedResourceError: The subscription was closed.
            RuntimeError: The pipe runs in another run of Trio than this task.
        """
        await self._until_ready()
        return self._take_bytes(trio.current_time(), max_bytes)

    def _take_bytes(self, now: float, max_bytes: int | None = None) -> bytes:
        """Do what `receive_bytes` does once it is ready; no checkpoint."""
        oldest = self._queue.oldest
        payloads = self._queue.take(max_bytes or self._max_write)
        if payloads:
            write = payloads[0] if len(payloads) == 1 else b"".join(payloads)
            self._queue.totals.writes.add(len(write))
            if oldest is not None and not self._ended:  # what is left may be taken by another clock
                self._queue.totals.latencies.add(max(now - oldest, 0))
            return write
        self._check_open()
        if self._ended:
            raise trio.EndOfChannel
        return KEEP_ALIVE

    @trio.lowlevel.enable_ki_protection
    def _until_ready(self) -> Awaitable[object]:
        """Return what to await until there is something to take, or a heartbeat is due; a checkpoint.

        To be awaited at once, in a function that is protected from Ctrl-C: from here on this
        task is the one that is woken.
        """
        self._token = trio.lowlevel.current_trio_token()  # before the look, as in Entrance.rest
        if self._queue or self._ended or self._closed:
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the caller awaits it, in one object less
        if self._reader is not None:
            raise trio.BusyResourceError("another task is already waiting for this subscription")
        self._reader = trio.lowlevel.current_task()  # before the look at the pipe's run, for the same reason
        try:
            is_woken = self._fell_silent(self)
        except BaseException:
            self._reader = None
            raise
        parked = trio.lowlevel.wait_task_rescheduled(self._stop_waiting)  # noqa: ASYNC105 - as above
        return parked if is_woken else self._until_heartbeat(parked)

    @trio.lowlevel.enable_ki_protection
    async def _until_heartbeat(self, parked: Awaitable[object]) -> None:
        with trio.move_on_after(self._heartbeat_interval):
            await parked

    def _waits_elsewhere(self, run: trio.lowlevel.TrioToken) -> bool:
        """Whether a task of another run of Trio waits, which must not be woken from this one."""
        return self._reader is not None and self._token is not run

    def _stop_waiting(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this subscription was closed")

    def _abandon(self) -> None:
        """Give up what is queued: count it as missed. No checkpoint."""
        self._queue.abandon()

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C in between would leave the task asleep
    def _wake(self) -> bool:
        """Wake the task that waits, in Trio's thread; say whether there is one."""
        reader, self._reader = self._reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader)
        return reader is not None

    def _deliver(self, parcel: Parcel, max_write: int) -> bool:
        """Queue what the pipe hands out, and say whether that woke a task; for the pipe."""
        self._max_write = max_write
        for offered, batch, gap in parcel:
            self._queue.offer(offered, batch)
            self._queue.lose(gap)
        return bool(self._queue) and self._wake()

    def _write_off(self, offered: int, gap: Gap | None) -> bool:
        """Miss what was not handed out, and say whether that woke a task; see `ClientQueue.write_off`."""
        self._queue.write_off(offered, gap)
        return self._wake()

    def _end(self) -> None:
        """Let iterations end once what is queued is taken; for the pipe, in Trio's thread."""
        self._ended = True
        self._wake()

    def _end_soon(self) -> None:
        """Do the same from anywhere."""
        self._ended = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake)

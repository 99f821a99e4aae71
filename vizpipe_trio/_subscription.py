"""One client of a pipe: a task's way to its queue."""

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import trio

from ._batch import Batch, EventFilter
from ._client import ClientQueue
from ._event import Event
from ._filter import FieldFilter
from ._sse import MAX_WRITE

Parcel = list[tuple[int, Batch, int]]
"""What a client is handed in one go. In order: how many events were broadcast, those of
them that it wants, and how many were dropped behind them."""


class Subscription:
    """One client's way to a pipe's events: an async iterator, and its account.

    Made by `Pipe.subscribe`. Registered from the start; leaving the ``with`` block
    (or `close`) takes it off. Iterating gives each event that is broadcast after it
    was made, in order, and ends when the pipe ends and the queue is empty. Cancelling
    the iteration loses nothing: it can be taken up again.

    ``offered == delivered + missed + filtered + queued`` at any moment.
    """

    def __init__(self, queue: ClientQueue, leave: Callable[["Subscription"], None]) -> None:
        self._queue = queue
        self._leave = leave
        self._readers = trio.lowlevel.ParkingLot()
        self._token: trio.lowlevel.TrioToken | None = None  # of those who wait
        self._ended = False
        self._closed = False

    @property
    def filter(self) -> EventFilter | None:
        """Which events it wants; None for all."""
        return self._queue.filter

    @property
    def _filter_key(self) -> object:
        """What is the same for clients that share the work; none of the host's code runs."""
        return self.filter if type(self.filter) is FieldFilter else id(self.filter)

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
        """Events it has lost so far because its queue was full.

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

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the pipe, and let go of what is queued. Idempotent, no checkpoint.

        A task that iterates gets `trio.ClosedResourceError`.
        """
        if not self._closed:
            self._closed = True
            self._leave(self)
            self._queue.clear()
            self._readers.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event; a checkpoint.

        Raises:
            StopAsyncIteration: The pipe has ended, and all that was queued is taken.
            trio.ClosedResourceError: The subscription was closed.
        """
        while True:
            await self._wait()
            event = self._queue.take_event()
            if event is not None:
                return event
            if self._ended:
                raise StopAsyncIteration

    async def receive_bytes(self, max_bytes: int = MAX_WRITE) -> bytes:
        """Return what is queued as frames of an event stream; a checkpoint.

        At most ``max_bytes``, but always one batch of events. Gaps are in their place
        as ``missed`` events. Shares its bytes with other clients where it can.

        Raises:
            trio.EndOfChannel: The pipe has ended, and all that was queued is taken.
            trio.ClosedResourceError: The subscription was closed.
        """
        await self._wait()
        payloads = self._queue.take(max_bytes)
        if not payloads:
            raise trio.EndOfChannel
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    @property
    def ended(self) -> bool:
        """Whether the pipe has ended; what is queued can still be taken."""
        return self._ended

    def abandon(self) -> None:
        """Give up what is queued: count it as missed. No checkpoint."""
        self._queue.abandon()

    async def _wait(self) -> None:
        """Wait until there is something to take, or the end; a checkpoint."""
        self._token = trio.lowlevel.current_trio_token()  # before the look, as in Entrance.rest
        if self._queue or self._ended or self._closed:
            await trio.lowlevel.checkpoint()
        while not (self._queue or self._ended or self._closed):
            await self._readers.park()
        if self._closed:
            raise trio.ClosedResourceError("this subscription was closed")

    def _deliver(self, parcel: Parcel) -> bool:
        """Queue what the pipe hands out, and say whether that woke a task; for the pipe."""
        for offered, batch, dropped in parcel:
            self._queue.offer(offered, batch)
            self._queue.overload(dropped)
        if self._queue and self._readers:
            self._readers.unpark_all()
            return True
        return False

    def _end(self) -> None:
        """Let iterations end once what is queued is taken; for the pipe, in Trio's thread."""
        self._ended = True
        self._readers.unpark_all()

    def _end_soon(self) -> None:
        """Do the same from anywhere."""
        self._ended = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._readers.unpark_all)

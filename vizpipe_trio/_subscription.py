"""One client of a pipe, as its user sees it."""

from types import TracebackType
from typing import Self

import trio

from ._batch import EventFilter
from ._event import Event
from ._mailbox import Mailbox


class Subscription:
    """One client's way to a pipe's events: an async iterator, and its account.

    Made by `Pipe.subscribe`. Registered from the start; leaving the ``with`` block
    (or `close`) takes it off. Iterating gives each event that is broadcast after it
    was made, in order, and ends when the pipe ends and the queue is empty. Cancelling
    the iteration loses nothing: it can be taken up again. One task at a time may wait.

    ``offered == delivered + missed + filtered + queued`` at any moment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    @property
    def heartbeat_interval(self) -> float:
        """Seconds of silence after which `receive_bytes` returns a comment; infinity for never."""
        return self._mailbox.heartbeat_interval

    @property
    def filter(self) -> EventFilter | None:
        """Which events it wants; None for all."""
        return self._mailbox.queue.filter

    @property
    def offered(self) -> int:
        """Events broadcast since it joined."""
        return self._mailbox.queue.offered

    @property
    def delivered(self) -> int:
        """Events it has taken."""
        return self._mailbox.queue.delivered

    @property
    def missed(self) -> int:
        """Events it has lost so far because its queue was full, the run was cancelled, or a fault hit it.

        Those dropped at the pipe's entrance were never offered to anyone; they are
        in `PipeStatistics.dropped`, here or at the worker where they were emitted, and a stream is told of them.
        """
        return self._mailbox.queue.missed

    @property
    def filtered(self) -> int:
        """Events it had not asked for."""
        return self._mailbox.queue.filtered

    @property
    def queued(self) -> int:
        """Events that wait to be taken; those it left behind, once it is closed."""
        return self._mailbox.queue.queued

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

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Leave the pipe, and let go of what is queued. Idempotent, no checkpoint.

        A task that iterates gets `trio.ClosedResourceError`.
        """
        self._mailbox.close()

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
        mailbox = self._mailbox
        while True:
            await mailbox.until_ready()
            event = mailbox.queue.take_event()
            if event is not None:
                return event
            mailbox.check_open()
            if mailbox.ended:
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
        await self._mailbox.until_ready()
        return self._mailbox.take_bytes(trio.current_time(), max_bytes)

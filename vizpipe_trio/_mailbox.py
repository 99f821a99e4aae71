"""One client's queue, and the task that waits for it: what the pipe and the client both hold.

The pipe puts in, in its own task, and the client's task takes out. Both are of one run of Trio,
and change nothing across a checkpoint, so there is no lock.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from ._batch import Batch, Gap
from ._client import ClientQueue
from ._filter import FieldFilter
from ._sight import Seen
from ._sse import KEEP_ALIVE, MAX_WRITE

Parcel = list[tuple[int, Batch, Gap]]
"""What a client is handed in one go. In order: how many events were broadcast, those of
them that it wants, and what was lost behind them."""


class Mailbox:
    """A client's queue, and its task while that waits.

    A client waits in as few objects as can be, since each wait makes them anew: with thousands
    of clients, their number decides how often a garbage collection stops the whole process.

    Args:
        queue: What the client has still to get, and its account.
        heartbeat_interval: As for `Pipe.subscribe`.
        leave: Called when the mailbox is closed.
        fell_silent: Called before a task waits. It is given in which run of Trio, and says whether
            that task will be woken for its heartbeat.

    Attributes:
        queue: As given.
        heartbeat_interval: As given.
        ended: Whether the pipe puts in nothing more.
        seen: What the client saw elsewhere, while it may be ahead of its pipe.
        filter_key: The same for clients that share the work.
    """

    __slots__ = (
        "_closed", "_fell_silent", "_leave", "_max_write", "_reader", "_token",
        "ended", "filter_key", "heartbeat_interval", "queue", "seen",
    )  # fmt: skip

    def __init__(
        self,
        queue: ClientQueue,
        heartbeat_interval: float,
        leave: Callable[["Mailbox"], None],
        fell_silent: Callable[["Mailbox", trio.lowlevel.TrioToken], bool],
    ) -> None:
        self.queue: ClientQueue = queue
        self.heartbeat_interval: float = heartbeat_interval
        self.ended: bool = False
        self.seen: Seen = ()
        # None of the host's code runs to compare it.
        self.filter_key: object = queue.filter if type(queue.filter) is FieldFilter else id(queue.filter)
        self._leave = leave
        self._fell_silent = fell_silent
        self._reader: trio.lowlevel.Task | None = None  # while it waits
        self._token: trio.lowlevel.TrioToken | None = None  # of those who wait
        self._max_write = MAX_WRITE
        self._closed = False

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C in between would leave a client for ever
    def close(self) -> None:
        """Leave the pipe, and let go of what is queued. Idempotent; for the client, like what follows."""
        if not self._closed:
            self._closed = True
            self._leave(self)
            self.queue.clear()
            self.wake()

    @trio.lowlevel.enable_ki_protection
    def until_ready(self) -> Awaitable[object]:
        """Return what to await until there is something to take, or a heartbeat is due; a checkpoint.

        To be awaited at once, in a function that is protected from Ctrl-C: from here on this
        task is the one that is woken.
        """
        token = self._token = trio.lowlevel.current_trio_token()  # before the look, as in Entrance.rest
        if self.queue or self.ended or self._closed:
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the caller awaits it, in one object less
        if self._reader is not None:
            raise trio.BusyResourceError("another task is already waiting for this subscription")
        self._reader = trio.lowlevel.current_task()  # before the look at the pipe's run, for the same reason
        try:
            is_woken = self._fell_silent(self, token)
        except BaseException:
            self._reader = None
            raise
        parked = trio.lowlevel.wait_task_rescheduled(self._stop_waiting)  # noqa: ASYNC105 - as above
        return parked if is_woken else self._until_heartbeat(parked)

    @trio.lowlevel.enable_ki_protection
    async def _until_heartbeat(self, parked: Awaitable[object]) -> None:
        with trio.move_on_after(self.heartbeat_interval):
            await parked

    def _stop_waiting(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def take_bytes(self, now: float, max_bytes: int | None = None) -> bytes:
        """Do what `Subscription.receive_bytes` does once it is ready; no checkpoint."""
        oldest = self.queue.oldest
        payloads = self.queue.take(max_bytes or self._max_write)
        if payloads:
            write = payloads[0] if len(payloads) == 1 else b"".join(payloads)
            self.queue.totals.writes.add(len(write))
            if oldest is not None and not self.ended:  # what is left may be taken by another clock
                self.queue.totals.latencies.add(max(now - oldest, 0))
            return write
        self.check_open()
        if self.ended:
            raise trio.EndOfChannel
        return KEEP_ALIVE

    def check_open(self) -> None:
        """Raise `trio.ClosedResourceError` if it is closed."""
        if self._closed:
            raise trio.ClosedResourceError("this subscription was closed")

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C in between would leave the task asleep
    def wake(self) -> bool:
        """Wake the task that waits; say whether there is one. For the pipe, like all that follows."""
        reader, self._reader = self._reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader)
        return reader is not None

    def waits_elsewhere(self, run: trio.lowlevel.TrioToken) -> bool:
        """Whether a task of another run of Trio waits, which must not be woken from this one."""
        return self._reader is not None and self._token is not run

    def deliver(self, parcel: Parcel, max_write: int) -> bool:
        """Queue what the pipe hands out, and say whether that woke a task."""
        self._max_write = max_write
        for offered, batch, gap in parcel:
            self.queue.offer(offered, batch)
            self.queue.lose(gap)
        return bool(self.queue) and self.wake()

    def write_off(self, offered: int, gap: Gap | None) -> bool:
        """Miss what was not handed out, and say whether that woke a task; see `ClientQueue.write_off`."""
        self.queue.write_off(offered, gap)
        return self.wake()

    def end(self) -> None:
        """Let iterations end once what is queued is taken."""
        self.ended = True
        self.wake()

    def end_soon(self) -> None:
        """Do the same from anywhere."""
        self.ended = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self.wake)

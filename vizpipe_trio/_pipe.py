"""The pipe and its subscriptions: the only place that knows tasks, threads and turns.

Two laws stand above everything here. The pipe never blocks the host's hot path,
neither by waiting nor by hogging the thread that all of Trio's tasks share. And it
may lose events, but every loss is counted and told.

    emit, any thread ──▶ entrance (bounded) ──▶ Pipe.run ──▶ one queue per client

The entrance is a deque and not a memory channel: `emit` is then one length check and
one append, the cost of less than a bare ``send_nowait``, a full pipe answers without
raising, and all threads share one order and one bound. The dispatcher is told only
when it needs to be: `Pipe._alarm` is the fill level at which `emit` wakes it, the
capacity itself while it is awake.
"""

import logging
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from threading import RLock, get_ident
from types import TracebackType
from typing import Protocol, Self

import msgspec
import trio

from ._batch import Batch, EventFilter, Missed
from ._client import ClientQueue, Totals
from ._event import Event
from ._history import History
from ._report import FaultReport
from ._sse import MAX_WRITE, encode_event, event_frame

DEFAULT_CAPACITY = 1000

CLIENTS_A_TURN = 10
"""Clients that are woken before the host's other tasks get their turn. Each costs the
thread one write, about 80 µs under Hypercorn, so a turn is a little under 1 ms."""

EVENTS_A_TURN = 256
"""Events that are encoded before the host's other tasks get their turn, at about 3 µs
each; a batch of common events is full, by size, well before that."""

OFFERS_A_TURN = 256
"""Clients that are offered a batch before the host's other tasks get their turn, when
few of them had been waiting for it. Each costs the thread about 2 µs."""

LOG_INTERVAL = 10.0
"""Seconds between two reports of faults."""


class DropMetric(Protocol):
    """What counts dropped events in the host's own metrics."""

    def inc(self) -> None:
        """Count one event that was dropped at the pipe's entrance.

        Called on the hot path, in the thread that emits: it must not block. What it
        raises is logged and goes no further.
        """


class PipeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a pipe's account.

    At any moment ``emitted == dropped + invalid + broadcast + queued``. The sums over
    clients include those that have left.

    Attributes:
        emitted: Calls of `Pipe.emit`, whatever became of the event.
        dropped: Events refused at the entrance: it was full, or the pipe had ended.
        invalid: Events that could not be encoded.
        broadcast: Events offered to all clients of their time.
        queued: Events that wait at the entrance.
        capacity: How many may wait there.
        clients: Subscriptions and streams that are open now.
        delivered: Events taken by clients, summed over all.
        missed: Events lost by clients that were too slow, summed over all.
        filtered: Events that clients had not asked for, summed over all.
        running: Whether `Pipe.run` is running.
        stopped: Whether the pipe has ended, and drops what is emitted.
    """

    emitted: int
    dropped: int
    invalid: int
    broadcast: int
    queued: int
    capacity: int
    clients: int
    delivered: int
    missed: int
    filtered: int
    running: bool
    stopped: bool


class Subscription:
    """One client's way to a pipe's events: an async iterator, and its account.

    Made by `Pipe.subscribe`. Registered from the start; leaving the ``with`` block
    (or `close`) takes it off. Iterating gives each event that is broadcast after it
    was made, in order, and ends when the pipe ends and the queue is empty. Cancelling
    the iteration loses nothing: it can be taken up again.

    ``offered == delivered + missed + filtered + queued`` at any moment.
    """

    def __init__(self, pipe: "Pipe", queue: ClientQueue) -> None:
        self._pipe = pipe
        self._queue = queue
        self._readers = trio.lowlevel.ParkingLot()
        self._ended = False
        self._closed = False

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
            self._pipe._forget(self)
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
        if self._queue or self._ended or self._closed:
            await trio.lowlevel.checkpoint()
        while not (self._queue or self._ended or self._closed):
            await self._readers.park()
        if self._closed:
            raise trio.ClosedResourceError("this subscription was closed")

    def _deliver(self, offered: int, batch: Batch | None, dropped: int) -> bool:
        """Queue what the dispatcher hands out; say whether that woke a task."""
        self._queue.offer(offered, batch)
        if dropped:
            self._queue.overload(dropped)
        if self._queue and self._readers:
            self._readers.unpark_all()
            return True
        return False

    def _end(self) -> None:
        self._ended = True
        self._readers.unpark_all()


class Pipe:
    """A channel for events that may lose some and never blocks who emits.

    It can be made anywhere, also outside Trio. Events are buffered from the start and
    go out once `run` is running.

    Args:
        capacity: How many events may wait for the dispatcher; 0 or less means 1000. The
            default holds a tenth of a second at 10,000 events a second.
        metric: Its ``inc()`` is called once for each event dropped at the entrance.
        logger: Where faults are reported, at most once in ten seconds. By default the
            logger ``vizpipe_trio``.
        client_capacity: How many events may wait for one client, at least 1. Past it the
            client misses events. The default takes a full entrance at once.
        history: How many events are kept for clients that reconnect; 0 for none.
        flush_interval: While busy, the dispatcher hands out events at most so often, in
            seconds: one write then carries many. The first event after a pause goes at
            once. The default is a thirtieth, which the eye takes for continuous; 0 turns
            it off.

    Raises:
        ValueError: ``client_capacity``, ``history`` or ``flush_interval`` is too small.
    """

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        metric: DropMetric | None = None,
        logger: logging.Logger | None = None,
        *,
        client_capacity: int = 1024,
        history: int = 256,
        flush_interval: float = 1 / 30,
    ) -> None:
        if client_capacity < 1:
            raise ValueError(f"client_capacity must be at least 1, not {client_capacity}")
        if history < 0:
            raise ValueError(f"history must be at least 0, not {history}")
        if not 0 <= flush_interval < math.inf:
            raise ValueError(f"flush_interval must be 0 or more seconds, not {flush_interval}")
        self._capacity = capacity if capacity > 0 else DEFAULT_CAPACITY
        self._metric = metric
        self._client_capacity = client_capacity
        self._flush_interval = flush_interval
        self._faults = FaultReport(
            logger or logging.getLogger("vizpipe_trio"), trio.current_time, LOG_INTERVAL
        )
        self._history = History(history)

        # The entrance. Trio's thread uses it as it is; all others, and everybody while
        # there is no such thread, hold the lock (which is reentrant, so that a signal
        # handler or a finalizer that emits in the middle of an emit does not hang).
        self._entrance: deque[Event] = deque()
        self._lock = RLock()
        self._trio_thread: int | None = None
        self._trio_token: trio.lowlevel.TrioToken | None = None
        self._alarm = self._capacity
        self._wakeup: trio.Event | None = None
        self._running = False
        self._stopped = False  # by stop(), for good
        self._cut_off = False  # run() was cancelled, until it runs again

        # The account. Each of the two ways in has counts of its own: += is not atomic.
        self._emitted = 0
        self._emitted_elsewhere = 0
        self._dropped = 0
        self._dropped_elsewhere = 0
        self._invalid = 0
        self._broadcast = 0
        self._totals = Totals()
        # Drops that clients are still to be told of, each due when so many events have
        # been taken from the entrance.
        self._gaps: deque[tuple[int, int]] = deque()
        self._dropped_noted = 0

        # A dict for its order: clients are served in the order in which they came.
        self._clients: dict[Subscription, None] = {}

    @trio.lowlevel.enable_ki_protection
    def emit(self, event: Event) -> bool:
        """Hand over an event. Never blocks, never raises, no checkpoint.

        From any thread, at any time: before `run` the event is buffered; after `stop`,
        or once the Trio run has ended, it is dropped. An event that turns out not to be
        encodable is accepted here, and counted as invalid by the dispatcher.

        Returns:
            True if the event was accepted; False if it was dropped and counted.
        """
        if get_ident() != self._trio_thread:
            return self._emit_elsewhere(event)
        self._emitted += 1
        if len(self._entrance) >= self._alarm:
            return self._emit_at_alarm(event)
        self._entrance.append(event)
        return True

    def _emit_at_alarm(self, event: Event) -> bool:
        if len(self._entrance) >= self._capacity:
            self._dropped += 1
            self._count_drop()
            return False
        self._entrance.append(event)
        self._wake()
        return True

    @trio.lowlevel.enable_ki_protection
    def _emit_elsewhere(self, event: Event) -> bool:
        with self._lock:
            self._emitted_elsewhere += 1
            accepted = self._admit(event)
            if not accepted:
                self._dropped_elsewhere += 1
        if not accepted:
            self._count_drop()
        return accepted

    def _admit(self, event: Event) -> bool:
        """Append an event unless the entrance is full or the pipe has ended."""
        if self._stopped or self._cut_off or len(self._entrance) >= self._capacity:
            return False
        # First the event, then the look at the alarm: _rest does it the other way round,
        # so that one of the two sees the other.
        self._entrance.append(event)
        if len(self._entrance) > self._alarm and self._trio_token is not None:
            self._alarm = self._capacity
            try:
                self._trio_token.run_sync_soon(self._wake, idempotent=True)
            except trio.RunFinishedError:
                # The run ended without run() being unwound (Trio itself crashed).
                self._entrance.pop()
                return False
        return True

    def _count_drop(self) -> None:
        if self._metric is not None:
            try:
                self._metric.inc()
            except Exception as error:
                self._faults.note("metric.inc() raised", error)

    def _wake(self) -> None:
        """Wake the dispatcher; in Trio's thread."""
        self._alarm = self._capacity
        if self._wakeup is not None:
            self._wakeup.set()

    def subscribe(self, filter: EventFilter | None = None) -> Subscription:  # noqa: A002 - the field's word
        """Register a client, at once; no checkpoint.

        It gets the events that are broadcast from now on, those still waiting at the
        entrance included. On a pipe that has ended its iteration ends at once.

        Args:
            filter: Says of an event whether this client wants it. Must be hashable, and
                quick. An event for which it raises is filtered out, and that is logged.

        Raises:
            TypeError: The filter is not hashable.
        """
        hash(filter)
        subscription = Subscription(self, ClientQueue(self._client_capacity, filter, self._totals))
        if self._stopped or self._cut_off:
            subscription._end()
        self._clients[subscription] = None
        return subscription

    def _forget(self, subscription: Subscription) -> None:
        self._clients.pop(subscription, None)

    def replay(self, last_event_id: str, filter: EventFilter | None = None) -> list[bytes]:  # noqa: A002
        """Return what the history holds for a client that reconnects; no checkpoint.

        Call it together with `subscribe`, with no checkpoint between: then what it
        returns and what the subscription gives follow on each other, each event once.

        Args:
            last_event_id: The ID that the client saw last. If it is not one of this
                run's, all that is held is returned.
            filter: As for `subscribe`.

        Returns:
            Frames of an event stream, in pieces of one write each. Events that are no
            longer held come first, as a ``missed`` event; its count is null where it
            cannot be known: with a filter, or an ID that is not of this run.
        """
        lost, held = self._history.since(last_event_id)
        wanted = self._select(held, filter)
        payloads = [batch.payload() for batch in wanted.split(MAX_WRITE)] if wanted else []
        if lost is not None:
            payloads.insert(0, (Missed("history", None) if filter else lost).payload())
        return payloads

    def stop(self) -> None:
        """End the pipe, for good: from now on events are dropped. No checkpoint.

        `run` hands out what is queued, ends every subscription and stream, and returns.
        Idempotent; any thread, and safe in a signal handler.
        """
        with self._lock:
            self._stopped = True
            self._trio_thread = None
            token = self._trio_token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._wake, idempotent=True)
        elif not self._running and trio.lowlevel.in_trio_run():
            self._end_clients()

    def statistics(self) -> PipeStatistics:
        """Return a snapshot of the account; no checkpoint, the same cost for any number
        of clients. Exact in Trio's thread; elsewhere it may be in the middle of a change.
        """
        with self._lock:
            return PipeStatistics(
                emitted=self._emitted + self._emitted_elsewhere,
                dropped=self._dropped + self._dropped_elsewhere,
                invalid=self._invalid,
                broadcast=self._broadcast,
                queued=len(self._entrance),
                capacity=self._capacity,
                clients=len(self._clients),
                delivered=self._totals.delivered,
                missed=self._totals.missed,
                filtered=self._totals.filtered,
                running=self._running,
                stopped=self._stopped or self._cut_off,
            )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand out events until `stop`: the dispatcher. Start it in a nursery of yours.

        After `stop` it hands out what is queued, ends every subscription, and returns.
        Cancelling it ends them at once; what was queued stays, and what is emitted is
        dropped, until the pipe is run again.

        Raises:
            RuntimeError: The pipe is already running.
        """
        if self._running:
            raise RuntimeError("this pipe is already running: start run() once")
        with self._lock:
            self._running = True
            self._cut_off = False
            self._trio_token = trio.lowlevel.current_trio_token()
            if not self._stopped:
                self._trio_thread = get_ident()
        try:
            task_status.started()
            await self._dispatch()
        finally:
            with self._lock:
                self._running = False
                self._cut_off = not self._stopped
                self._trio_thread = None
                self._trio_token = None
                self._alarm = self._capacity
            self._end_clients()
            self._faults.flush(force=True)

    async def _dispatch(self) -> None:
        while not self._stopped or self._entrance:
            await self._rest(alarm=0, seconds=math.inf)
            began = trio.current_time()
            due = self._taken + len(self._entrance)
            while self._taken < due:
                await self._broadcast_batch()
            # One write costs a client's connection far more than one event does: let
            # events gather, but not so many that the entrance overflows meanwhile.
            await self._rest(
                alarm=self._capacity // 2,
                seconds=began + self._flush_interval - trio.current_time(),
            )

    @property
    def _taken(self) -> int:
        """Events taken from the entrance so far."""
        return self._invalid + self._broadcast

    async def _rest(self, *, alarm: int, seconds: float) -> None:
        """Sleep until more than ``alarm`` events wait, the pipe stops, or time is up."""
        self._wakeup = trio.Event()
        self._alarm = alarm
        if len(self._entrance) > alarm or self._stopped or seconds <= 0:
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_after(seconds):
                await self._wakeup.wait()
        self._alarm = self._capacity
        self._wakeup = None

    async def _broadcast_batch(self) -> None:
        """Take one batch from the entrance and hand it out, some clients a turn."""
        batch, dropped = self._next_batch()
        # No checkpoint since the batch went into the history: a client is either in this
        # list or finds the batch there.
        clients = list(self._clients)
        self._faults.flush()
        views: dict[EventFilter | None, Batch | None] = {}
        woken = offered = 0
        for client in clients:
            if client not in self._clients:
                continue
            wanted = client._queue.filter
            if wanted not in views:
                views[wanted] = self._select(batch, wanted)
            woken += client._deliver(len(batch), views[wanted], dropped)
            offered += 1
            if woken == CLIENTS_A_TURN or offered == OFFERS_A_TURN:
                woken = offered = 0
                await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    def _next_batch(self) -> tuple[Batch, int]:
        """Take events of one write's size; also return how many were dropped behind them.

        Events are dropped while the entrance is full, so behind all that waits now.
        """
        dropped = self._dropped + self._dropped_elsewhere
        if dropped > self._dropped_noted:
            self._gaps.append((self._taken + len(self._entrance), dropped - self._dropped_noted))
            self._dropped_noted = dropped
        due = self._gaps[0][0] if self._gaps else self._taken + len(self._entrance)
        events: list[Event] = []
        frames: list[bytes] = []
        size = 0
        for _ in range(min(due - self._taken, EVENTS_A_TURN)):
            event = self._entrance[0]
            try:
                data = encode_event(event)
            except ValueError as error:
                self._invalid += 1
                self._faults.note("an event was left out as invalid", error)
            else:
                frame = event_frame(self._history.event_id(len(events) + 1), data)
                size += len(frame)
                if events and size > MAX_WRITE:
                    break
                events.append(event)
                frames.append(frame)
            self._entrance.popleft()
        self._broadcast += len(events)
        batch = Batch(events, frames)
        self._history.add(batch)
        told = self._gaps.popleft()[1] if self._gaps and self._gaps[0][0] <= self._taken else 0
        return batch, told

    def _select(self, batch: Batch, wanted: EventFilter | None) -> Batch | None:
        """Return what a filter lets through; what it raises is noted and filtered out."""
        if wanted is None:
            return batch
        try:
            return batch.only([bool(wanted(event)) for event in batch.events])
        except Exception:
            return batch.only([self._wants(event, wanted) for event in batch.events])

    def _wants(self, event: Event, wanted: EventFilter) -> bool:
        try:
            return bool(wanted(event))
        except Exception as error:
            self._faults.note("a filter raised, and its client did not get the event", error)
            return False

    def _end_clients(self) -> None:
        for client in self._clients:
            client._end()


@asynccontextmanager
async def open_pipe(
    capacity: int = DEFAULT_CAPACITY,
    metric: DropMetric | None = None,
    logger: logging.Logger | None = None,
    *,
    client_capacity: int = 1024,
    history: int = 256,
    flush_interval: float = 1 / 30,
) -> AsyncIterator[Pipe]:
    """Open a pipe that runs inside the ``async with`` block; the arguments are `Pipe`'s.

    On a normal exit the pipe stops, hands out what is queued, and every subscription
    ends. On an exception it is cancelled; as from any nursery, the exception then comes
    in an exception group.
    """
    pipe = Pipe(
        capacity,
        metric,
        logger,
        client_capacity=client_capacity,
        history=history,
        flush_interval=flush_interval,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        yield pipe
        pipe.stop()

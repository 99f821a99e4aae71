"""The pipe: from the entrance to one queue per client, some clients a turn.

Two laws stand above everything here. The pipe never blocks the host's hot path,
neither by waiting nor by hogging the thread that all of Trio's tasks share. And it
may lose events, but every loss is counted and told.

    emit, any thread ──▶ Entrance ──▶ Intake ──▶ Log ──▶ Dispatcher ──▶ one Mailbox per Subscription
"""

import logging
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal, SupportsIndex

import trio

from ._batch import EventFilter
from ._client import ClientQueue, Totals
from ._dispatcher import Dispatcher
from ._entrance import DEFAULT_CAPACITY, DropMetric, Entrance
from ._event import Event
from ._intake import Intake
from ._junction import Junction
from ._log import Log
from ._mailbox import Mailbox
from ._record import Recording
from ._replay import replay
from ._report import FaultReport
from ._statistics import PipeStatistics
from ._subscription import Subscription

LOG_INTERVAL = 10.0
"""Seconds between two reports of faults."""


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
        flush_interval: While busy, the dispatcher rests so long, in seconds, when every
            client has been served: one write then carries many events. The first event
            after a pause goes at once. The default is a thirtieth, which the eye takes for
            continuous; 0 turns it off.

    Raises:
        TypeError: ``capacity``, ``client_capacity`` or ``history`` is no whole number.
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
        counts = {"capacity": capacity, "client_capacity": client_capacity, "history": history}
        for name, count in counts.items():
            # 1e3 would do until a list is cut there: then every event is lost.
            if not isinstance(count, SupportsIndex):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{name} must be an int, not {count!r}")
        if client_capacity < 1:
            raise ValueError(f"client_capacity must be at least 1, not {client_capacity}")
        if history < 0:
            raise ValueError(f"history must be at least 0, not {history}")
        if not 0 <= flush_interval < math.inf:
            raise ValueError(f"flush_interval must be 0 or more seconds, not {flush_interval}")
        logger = logger or logging.getLogger("vizpipe_trio")
        self._faults = FaultReport(logger, trio.current_time, LOG_INTERVAL)
        self._entrance = Entrance(capacity, metric, self._faults)
        self._log = Log(history)
        self._intake = Intake(self._entrance, self._log, self._faults)
        self._dispatcher = Dispatcher(self._entrance, self._log, self._intake, self._faults, flush_interval)
        self._client_capacity = client_capacity
        self._open = 0
        self._totals = Totals()

    @trio.lowlevel.enable_ki_protection
    def emit(self, event: Event) -> bool:
        """Hand over an event. Never blocks, never raises, no checkpoint.

        From any thread, at any time: before `run` the event is buffered; after `stop`,
        or once the Trio run has ended, it is dropped. An event that turns out not to be
        encodable is accepted here, and counted as invalid by the dispatcher.

        Returns:
            True if the event was accepted; False if it was dropped and counted.
        """
        return self._entrance.emit(event)

    def record(
        self,
        op: Literal["WRITE", "QUERY"] = "QUERY",
        *,
        request_id: str = "",
        source: str = "",
        subject: str = "",
        actor_type: Literal["user", "agent", "system"] = "user",
        labels: Sequence[str] = (),
        stages: Sequence[str] = (),
    ) -> Recording:
        """Return a recording of one request: ``with pipe.record("QUERY", subject=query) as request``.

        Leaving the block emits one event: with the stages that were timed by ``with
        request.stage("cache") as stage``, and the time of the whole as ``total_ms``. It is emitted
        as by `emit`, so nothing blocks and no thread is refused. As a decorator it records every
        call of a function.

        Args:
            op: What is asked for.
            request_id: The request's identity in the host's own logs.
            source: The part of the system that reports.
            subject: What it is about.
            actor_type: Who asks.
            labels: Labels of the request.
            stages: The stages that a request may go through, in order. Those that it does not
                need are in its event all the same, with 0 ms.

        Raises:
            TypeError: ``stages`` is one string.
        """
        return Recording(self.emit, op, request_id, source, subject, actor_type, labels, stages)

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C in between would leave a client for ever
    def subscribe(
        self,
        filter: EventFilter | None = None,  # noqa: A002 - the field's word
        *,
        heartbeat_interval: float = math.inf,
        last_event_id: str = "",
    ) -> Subscription:
        """Register a client, at once; no checkpoint.

        It gets the events that are broadcast from now on, those still waiting at the
        entrance included. On a pipe that has ended, or was cancelled and is not run again
        yet, its iteration ends at once. It is iterated in the run of Trio in which the pipe
        runs: in another one that is a RuntimeError.

        Args:
            filter: Says of an event whether this client wants it. Must be quick. An event
                for which it raises is filtered out, and that is logged.
            heartbeat_interval: Seconds of silence, more than 0, after which
                `Subscription.receive_bytes` returns a comment. None by default.
            last_event_id: The ID that a client saw last. It matters with a relay (see
                `vizpipe_trio.redis`): a client that comes from another worker may be ahead
                of this one, and is not given again what it saw there.

        Raises:
            ValueError: The interval is not more than 0.
        """
        if not heartbeat_interval > 0:
            raise ValueError(f"heartbeat_interval must be more than 0 seconds, not {heartbeat_interval}")
        queue = ClientQueue(self._client_capacity, filter, self._totals)
        mailbox = Mailbox(queue, heartbeat_interval, self._forget, self._fell_silent)
        mailbox.seen = self._log.seen_elsewhere(last_event_id)
        self._open += 1
        self._dispatcher.add(mailbox)
        if self._entrance.closed:  # looked at last: a stop from a thread sees the client, or is seen here
            self._dispatcher.forget(mailbox)
            mailbox.end()
        return Subscription(mailbox)

    def _forget(self, mailbox: Mailbox) -> None:
        self._open -= 1
        self._dispatcher.forget(mailbox)

    def _fell_silent(self, mailbox: Mailbox, waits_in: trio.lowlevel.TrioToken) -> bool:
        """Note that a client waits from now on; say whether it will be woken for its heartbeat."""
        run = self._entrance.token
        if run is None:
            return False
        if run is not waits_in:
            raise RuntimeError("this task is in another run of Trio than its pipe's")
        if mailbox.heartbeat_interval < math.inf:
            self._dispatcher.fell_silent(mailbox)
        return True

    def replay(self, last_event_id: str, filter: EventFilter | None = None) -> Iterator[bytes]:  # noqa: A002
        """Return what the history holds for a client that reconnects; no checkpoint.

        Call it together with `subscribe`, with no checkpoint between: then what it
        returns and what the subscription gives follow on each other, each event once.

        Args:
            last_event_id: The ID that the client saw last. If it is not one of this
                pipe's, all that is held is returned.
            filter: As for `subscribe`.

        Returns:
            Frames of an event stream, one write at a time, of which some are empty. What they
            are is settled now, but each is put together when it is asked for. Events that are
            no longer held come first, as a ``missed`` event; its count is null where it
            cannot be known: with a filter, or an ID that is not one of this pipe's.
        """
        lost, stretches = self._log.replay(last_event_id)
        if lost is not None:
            self._totals.history += lost.count or 0
            self._totals.unknown += lost.count is None
        return replay(lost, stretches, filter, self._faults)

    def stop(self) -> None:
        """End the pipe, for good: from now on events are dropped. No checkpoint.

        `run` hands out what is queued, ends every subscription and stream, and returns.
        Idempotent; any thread, and safe in a signal handler.
        """
        self._entrance.close()
        if not self._entrance.attended:
            self._end_relay()
            self._dispatcher.end_soon()  # there may never be a run to do it

    def statistics(self) -> PipeStatistics:
        """Return a snapshot of the account; no checkpoint.

        Costs the same for any number of clients. Exact in Trio's thread; in another it
        may come in the middle of a change.
        """
        emitted, overflowed, refused, queued = self._entrance.counts()
        junction = self._intake.junction
        return PipeStatistics(
            emitted=emitted,
            dropped=overflowed + refused,
            invalid=self._intake.invalid,
            broadcast=self._intake.broadcast,
            queued=queued,
            capacity=self._entrance.capacity,
            clients=self._open,
            delivered=self._totals.delivered,
            missed=self._totals.missed,
            filtered=self._totals.filtered,
            refused=refused,
            missed_overload=self._totals.overload,
            missed_history=self._totals.history,
            missed_relay=self._totals.unrelayed,
            missed_unknown=self._totals.unknown,
            written_bytes=self._totals.writes.total,
            write_sizes=tuple(self._totals.writes.counts),
            latency_seconds=self._totals.latencies.total,
            latencies=tuple(self._totals.latencies.counts),
            running=self._entrance.attended,
            stopped=self._entrance.ended,
            relay=None if junction is None else junction.report(),
        )

    @property
    def _closed_because(self) -> str:
        """Why a stream would end at once; empty if it would not. For the views."""
        if self._entrance.ended:
            return "the pipe has ended"
        return "the pipe was cancelled, and does not run" if self._entrance.closed else ""

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C between taking and counting would be a lie
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand out events until `stop`: the dispatcher. Start it in a nursery of yours.

        After `stop` it hands out what is queued, ends every subscription, some a turn, and
        returns; a checkpoint. Cancelling it ends them all at once, which with a thousand
        viewers holds Trio's thread for a fifth of a second, and they miss what they were not
        handed yet; what waits at the entrance stays, and what is emitted is dropped, until the
        pipe is run again. No fault in here ends it, and with it your nursery: it is logged, what was
        lost is counted, and the run goes on.

        Raises:
            RuntimeError: The pipe is already running.
        """
        if self._entrance.attended:
            raise RuntimeError("this pipe is already running: start run() once")
        try:
            with self._entrance.attend():
                self._intake.note_drops()
                task_status.started()
                await self._dispatcher.run()
        finally:
            self._dispatcher.wind_up()
            if self._entrance.ended:  # also if it was cancelled before all was handed out
                self._end_relay()

    def _note(self, what: str, error: Exception) -> None:
        """Have a fault in what the host gave us logged, also if there never is an event. Any thread; for integrations."""
        self._faults.note(what, error)
        self._entrance.rouse()

    def _join(self, capacity: int) -> Junction:
        """Join a relay to this pipe, for good; for the relay.

        Args:
            capacity: How many of the pipe's events may wait to be sent.
        """
        if self._intake.junction is not None:
            raise RuntimeError("this pipe has a relay already")
        if self._log.head.events or self._entrance.attended:
            raise RuntimeError("join the relay before the pipe runs")
        self._intake.junction = Junction(capacity, self._client_capacity, self._entrance.rouse)
        self._log.is_shared = True
        return self._intake.junction

    def _end_relay(self) -> None:
        if self._intake.junction is not None:
            self._intake.junction.end()


@asynccontextmanager
async def open_pipe(
    capacity: int = DEFAULT_CAPACITY,
    metric: DropMetric | None = None,
    logger: logging.Logger | None = None,
    *,
    client_capacity: int = 1024,
    history: int = 256,
    flush_interval: float = 1 / 30,
) -> AsyncGenerator[Pipe]:
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

"""The pipe: from the entrance to one queue per client, some clients a turn.

Two laws stand above everything here. The pipe never blocks the host's hot path,
neither by waiting nor by hogging the thread that all of Trio's tasks share. And it
may lose events, but every loss is counted and told.

    emit, any thread ──▶ Entrance ──▶ Pipe.run ──▶ one ClientQueue per Subscription
"""

import logging
import math
import sys
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from itertools import chain, islice
from time import perf_counter
from typing import NamedTuple

import msgspec
import trio

from ._batch import Batch, EventFilter, Missed
from ._client import ClientQueue, Totals
from ._entrance import DEFAULT_CAPACITY, DropMetric, Entrance
from ._event import Event
from ._junction import Epoch, Junction
from ._log import Log, Place
from ._report import FaultReport
from ._sse import MAX_BURST, MAX_WRITE, encode_event, event_frame
from ._subscription import Parcel, Subscription
from ._trail import Seen

CLIENTS_A_TURN = 10
"""Clients that are woken before the host's other tasks get their turn. Each costs the
thread one write, about 80 µs under Hypercorn, so a turn is a little under 1 ms."""

TURN_SECONDS = 0.001
"""How long the dispatcher itself may hold the thread, to encode events or to put them
through filters, before the host's other tasks get their turn."""

PASSES_A_WRITE = 3
"""Times that Trio runs a client's task until its write is done, under Hypercorn: how
long they take is what a turn costs."""

SHARE = 1 / 2
"""The share of the thread's time that turns take while events can still gather. The
rest is the host's."""

LONGEST_REST = 0.01
"""Seconds of rest after a turn at most: a host that is busy makes turns look expensive."""

BUSY_SECONDS = 0.1
"""How long there must have been more to write than small writes can carry before they grow. A
single burst is over by then."""

LOG_INTERVAL = 10.0
"""Seconds between two reports of faults."""


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


class Served(NamedTuple):
    """What a client was offered, and when, by Trio's clock."""

    place: Place
    at: float


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
        logger = logger or logging.getLogger("vizpipe_trio")
        self._faults = FaultReport(logger, trio.current_time, LOG_INTERVAL)
        self._entrance = Entrance(capacity, metric, self._faults.note)
        self._log = Log(history)
        self._client_capacity = client_capacity
        self._flush_interval = flush_interval
        # In the order in which they were served last, so the hindmost first.
        self._clients: OrderedDict[Subscription, Served] = OrderedDict()
        self._open = 0
        # By interval, since when each client waits: those that have been silent for longest first.
        self._silent: dict[float, OrderedDict[Subscription, float]] = {}
        self._round_ended = -math.inf
        self._max_write = MAX_WRITE
        self._totals = Totals()
        self._invalid = 0
        self._broadcast = 0
        # Drops that are not in the log yet: how many events are to be taken from the
        # entrance before them, and how many they are.
        self._gaps: deque[tuple[int, int]] = deque()
        self._drops_noted = 0
        self._junction: Junction | None = None

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

    def subscribe(
        self,
        filter: EventFilter | None = None,  # noqa: A002 - the field's word
        *,
        last_event_id: str = "",
    ) -> Subscription:
        """Register a client, at once; no checkpoint.

        It gets the events that are broadcast from now on, those still waiting at the
        entrance included. On a pipe that has ended its iteration ends at once.

        Args:
            filter: Says of an event whether this client wants it. Must be quick. An event
                for which it raises is filtered out, and that is logged.
            last_event_id: The ID that a client saw last. It matters with a relay (see
                `vizpipe_trio.redis`): a client that comes from another worker may be ahead
                of this one, and is not given again what it saw there.
        """
        queue = ClientQueue(self._client_capacity, filter, self._totals)
        subscription = Subscription(queue, self._forget, self._fell_silent)
        self._open += 1
        if self._entrance.closed:
            subscription._end()
            return subscription
        subscription._seen = self._log.seen_elsewhere(last_event_id)
        self._clients[subscription] = Served(self._log.head, self._round_ended)
        return subscription

    def _forget(self, subscription: Subscription) -> None:
        self._open -= 1
        self._clients.pop(subscription, None)
        for silent in self._silent.values():
            silent.pop(subscription, None)

    def _fell_silent(self, subscription: Subscription) -> bool:
        """Note that a client waits from now on; say whether it will be woken for its heartbeat."""
        if not self._entrance.attended:
            return False
        if subscription.heartbeat_interval < math.inf:
            silent = self._silent.setdefault(subscription.heartbeat_interval, OrderedDict())
            if not silent:
                self._entrance.rouse()  # it may mean to rest for longer
            silent[subscription] = trio.current_time()
            silent.move_to_end(subscription)
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
            Frames of an event stream, one write at a time. What they are is settled now, but
            each is put together when it is asked for. Events that are no
            longer held come first, as a ``missed`` event; its count is null where it
            cannot be known: with a filter, or an ID that is not one of this pipe's.
        """
        seen = self._log.seen_elsewhere(last_event_id)
        lost, place = self._log.resume(last_event_id)
        first: list[Missed] = []
        if lost is not None:
            first.append(lost if filter is None else Missed("history", None))
        stretches = self._log.since(place, seen, replay=True)
        if lost is None and stretches and not stretches[0].batch:
            # Lost right behind the last event that it saw: it may have been told or not.
            gap = stretches.pop(0).gap
            first += [Missed("overload", None)] * (gap.dropped != 0)
            first += [Missed("relay", None)] * (gap.unrelayed != 0)
        # Not a client's account: what is replayed was broadcast before this client came.
        queue = ClientQueue(sys.maxsize, filter, Totals())
        for batch, gap in stretches:
            wanted = self._select(batch, filter)
            queue.offer(len(wanted), wanted)
            # What another worker lost, or this one, need not be the same.
            queue.lose(gap.uncounted() if seen else gap)
        replayed = iter(lambda: b"".join(queue.take(MAX_WRITE)), b"")
        return chain((missed.payload() for missed in first), replayed)

    def stop(self) -> None:
        """End the pipe, for good: from now on events are dropped. No checkpoint.

        `run` hands out what is queued, ends every subscription and stream, and returns.
        Idempotent; any thread, and safe in a signal handler.
        """
        self._entrance.close()
        if not self._entrance.attended:
            self._end_relay()
            for client in list(self._clients):
                client._end_soon()  # there may never be a run to do it

    def statistics(self) -> PipeStatistics:
        """Return a snapshot of the account; no checkpoint.

        Costs the same for any number of clients. Exact in Trio's thread; in another it
        may come in the middle of a change.
        """
        emitted, overflowed, refused, queued = self._entrance.counts()
        return PipeStatistics(
            emitted=emitted,
            dropped=overflowed + refused,
            invalid=self._invalid,
            broadcast=self._broadcast,
            queued=queued,
            capacity=self._entrance.capacity,
            clients=self._open,
            delivered=self._totals.delivered,
            missed=self._totals.missed,
            filtered=self._totals.filtered,
            running=self._entrance.attended,
            stopped=self._entrance.closed,
        )

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C between taking and counting would be a lie
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand out events until `stop`: the dispatcher. Start it in a nursery of yours.

        After `stop` it hands out what is queued, ends every subscription, and returns.
        Cancelling it ends them at once; what was queued stays, and what is emitted is
        dropped, until the pipe is run again.

        Raises:
            RuntimeError: The pipe is already running.
        """
        if self._entrance.attended:
            raise RuntimeError("this pipe is already running: start run() once")
        try:
            with self._entrance.attend():
                task_status.started()
                await self._dispatch()
            self._end_relay()
        finally:
            try:
                while self._serve(trio.current_time()):
                    pass
            finally:
                for client in self._clients:
                    client._end()
                self._clients.clear()
                self._silent.clear()
                self._faults.close()

    async def _dispatch(self) -> None:
        """Serve the clients in rounds, the hindmost first, some a turn."""
        entrance = self._entrance
        half_full = entrance.capacity // 2
        round_began = resume_at = -math.inf
        busy_since = trio.current_time()
        while not entrance.closed or entrance.waiting or self._hindmost() is not None:
            if self._hindmost() is None and not entrance.waiting and not self._has_arrivals:
                await entrance.rest(alarm=0, seconds=min(self._faults.due_in(), self._heartbeat_in()))
            self._take()
            # A write costs far more than an event in it. As long as the next one would not
            # be half full, let events gather (but not so many that the entrance overflows),
            # and let the host have its share of the time.
            now = trio.current_time()
            hindmost = self._hindmost()
            new_round = hindmost is None or hindmost[1].at >= round_began
            pause = 0.0
            pressed = (
                entrance.closed
                or len(entrance.waiting) > half_full
                or self._log.pending > self._max_write / 2
            )
            if not pressed:
                pause = max(resume_at, self._round_ended + self._flush_interval if new_round else now) - now
            if pause > 0 or (hindmost is None and self._heartbeat_in() > 0):
                await entrance.rest(alarm=half_full, seconds=pause)
                continue
            if new_round:
                round_began = now
                rested = now - self._round_ended > self._flush_interval + BUSY_SECONDS
                if rested or self._log.pending <= MAX_WRITE / 2:
                    busy_since = now
                self._max_write = MAX_BURST if now - busy_since > BUSY_SECONDS else MAX_WRITE
            brings_events = self._log.pending > 0
            self._serve(now)
            for _ in range(PASSES_A_WRITE):
                await trio.lowlevel.checkpoint()
            ended = trio.current_time()
            if brings_events:
                self._round_ended = ended  # unless there are more turns to it
            resume_at = ended + min((ended - now) * (1 / SHARE - 1), LONGEST_REST)

    def _serve(self, now: float) -> bool:
        """Offer some clients what is new for them; return False when there is nothing."""
        served = Served(self._log.head, now)
        parcels: dict[tuple[Place, object, Seen], Parcel] = {}
        woken = self._send_heartbeats(now)
        until = perf_counter() + TURN_SECONDS
        hindmost = self._hindmost()
        while hindmost is not None:
            client, (place, _) = hindmost
            key = place, client._filter_key, client._seen
            if key not in parcels:
                parcels[key] = [
                    (len(batch), self._select(batch, client.filter), gap)
                    for batch, gap in self._log.since(place, client._seen)
                ]
            # Before it is woken, and only if its own filter has not just closed it.
            if client in self._clients:
                self._clients[client] = served
                self._clients.move_to_end(client)
                woken += client._deliver(parcels[key], self._max_write)
                if client._seen:
                    client._seen = self._log.not_passed(client._seen)
            if woken >= CLIENTS_A_TURN or perf_counter() > until:
                return True
            hindmost = self._hindmost()
        return woken > 0

    def _hindmost(self) -> tuple[Subscription, Served] | None:
        """Return the client that was served longest ago, if there is anything new for it."""
        for client, served in self._clients.items():
            return None if served.place == self._log.head else (client, served)
        return None

    def _send_heartbeats(self, now: float) -> int:
        """Wake some of the clients that have been silent for long; return how many."""
        woken = 0
        for interval, silent in self._silent.items():
            for client, since in list(islice(silent.items(), CLIENTS_A_TURN)):
                if since + interval > now or woken == CLIENTS_A_TURN:
                    break
                silent[client] = now
                silent.move_to_end(client)
                woken += client._wake()
        return woken

    def _heartbeat_in(self) -> float:
        """Return in how many seconds a heartbeat is due, or infinity."""
        now = trio.current_time()
        due_at = (
            since + interval
            for interval, silent in self._silent.items()
            for since in islice(silent.values(), 1)
        )
        return min(due_at, default=math.inf) - now

    def _take(self) -> None:
        """Take events from the entrance, up to one write for the hindmost client."""
        hindmost = self._hindmost()
        self._log.settle(hindmost[1].place if hindmost else self._log.head)
        # In this order: what is dropped in between, by a thread, is behind what waits then.
        overflowed = self._entrance.overflowed
        end = self._taken + len(self._entrance.waiting)
        if overflowed > self._drops_noted:
            # Events are dropped while the entrance is full, so behind all that waits now.
            self._gaps.append((end, overflowed - self._drops_noted))
            self._drops_noted = overflowed
        until = perf_counter() + TURN_SECONDS
        while True:
            due = self._gaps[0][0] if self._gaps else end
            if due > self._taken:
                room = self._max_write - self._log.pending
                self._log.extend(self._encode(due - self._taken, room, until))
            if self._taken < due or not self._gaps:
                break
            dropped = self._gaps.popleft()[1]
            self._log.add_gap(dropped)
            if self._junction is not None:
                self._junction.drop(dropped)
        if self._junction is not None:
            self._take_arrivals(self._junction, perf_counter() + TURN_SECONDS / 2)
        self._faults.flush()

    def _take_arrivals(self, junction: Junction, until: float) -> None:
        """Take what a relay brought, as far as there is room behind the pipe's own events."""
        trail = self._log.trail
        while junction.arrivals and perf_counter() < until:
            arrival = junction.arrivals[0]
            if isinstance(arrival, Epoch):
                trail.begin(arrival.name, arrival.floor, self._log.head.events)
                junction.arrivals.popleft()
                continue
            if arrival.dropped or arrival.lost != 0:
                self._log.add_gap(arrival.dropped, arrival.lost)
            room = self._max_write - self._log.pending
            frames: list[bytes] = []
            for event_id, data in zip(self._log.relayed_ids(arrival.spot), arrival.data, strict=False):
                frame = event_frame(event_id, data)
                room -= len(frame)
                if room < 0:
                    break
                frames.append(frame)
            if frames:
                batch = Batch(arrival.events[: len(frames)], frames)
                self._log.extend_relayed(batch, arrival.run, arrival.first, arrival.spot)
            junction.took(arrival, len(frames))
            if len(frames) < len(arrival.data):
                break
            if arrival.echoed:
                trail.echo(arrival.first, arrival.echoed, arrival.spot)
            trail.read_to(arrival.until)

    @property
    def _has_arrivals(self) -> bool:
        return self._junction is not None and bool(self._junction.arrivals)

    def _join(self, capacity: int) -> Junction:
        """Join a relay to this pipe, for good; for the relay.

        Args:
            capacity: How many of the pipe's events may wait to be sent.
        """
        if self._junction is not None:
            raise RuntimeError("this pipe has a relay already")
        if self._taken or self._entrance.attended:
            raise RuntimeError("join the relay before the pipe runs")
        self._junction = Junction(capacity, self._client_capacity, self._entrance.rouse)
        self._log.is_shared = True
        return self._junction

    def _end_relay(self) -> None:
        if self._junction is not None:
            self._junction.end()

    @property
    def _taken(self) -> int:
        """Events taken from the entrance so far."""
        return self._invalid + self._broadcast

    def _encode(self, most: int, room: int, until: float) -> Batch:
        """Take so many events at most from the entrance, so many bytes of frames, for so long."""
        waiting = self._entrance.waiting
        events: list[Event] = []
        frames: list[bytes] = []
        to_relay: list[bytes] = []
        for _ in range(most):
            if perf_counter() > until:
                break
            event = waiting[0]
            try:
                data = encode_event(event)
            except ValueError as error:
                self._invalid += 1
                self._faults.note("an event was left out as invalid", error)
            else:
                frame = event_frame(self._log.event_id(len(events) + 1), data)
                room -= len(frame)
                if room < 0:
                    break
                events.append(event)
                frames.append(frame)
                if self._junction is not None:
                    to_relay.append(data)
            waiting.popleft()
        self._broadcast += len(events)
        if self._junction is not None and to_relay:
            self._junction.offer(to_relay)
        return Batch(events, frames)

    def _select(self, batch: Batch, wanted: EventFilter | None) -> Batch:
        """Return what a filter lets through."""
        return batch if wanted is None else batch.only([self._wants(event, wanted) for event in batch.events])

    def _wants(self, event: Event, wanted: EventFilter) -> bool:
        try:
            return bool(wanted(event))
        except Exception as error:
            self._faults.note("a filter raised, and its client did not get the event", error)
            return False


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

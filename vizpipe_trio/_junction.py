"""Where a relay is joined to a pipe: what goes out, and what comes in. Both ways are bounded.

    Pipe.run ──offer──▶ Outbox ──▶ the relay ──▶ other workers
    Pipe.run ◀──arrivals── Junction ◀── the relay ◀── other workers

The pipe never waits here. The relay does: for something to send, and for room.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import trio

from ._event import Event
from ._outbox import Outbox
from ._sight import Spot
from ._statistics import RelayStatistics

MAX_ARRIVALS = 64
"""Messages that may wait for the pipe, besides the bound on their events."""


class Epoch(NamedTuple):
    """The shared stream has begun anew, or is read for the first time, from ``floor`` on."""

    name: bytes
    floor: Spot


class Arrival(NamedTuple):
    """A message from the shared stream, as far as it is new to this worker.

    Own events come back without a copy, to say where in the stream they are.
    """

    spot: Spot  # up to the first of the events
    until: Spot  # behind the message
    run: bytes = b""
    first: int = 0
    events: Sequence[Event] = ()
    data: Sequence[bytes] = ()
    dropped: int = 0  # at that worker's entrance, before these
    lost: int | None = 0  # on the way, before these
    echoed: int = 0  # own events that came back

    def rest(self, taken: int) -> "Arrival":
        """Return what is left when so many of the events are taken."""
        return self._replace(
            spot=self.spot._replace(offset=self.spot.offset + taken),
            first=self.first + taken,
            events=self.events[taken:],
            data=self.data[taken:],
            dropped=0,
            lost=0,
        )


class Junction:
    """Both ends of a relay, for the pipe and for the relay.

    Args:
        capacity: How many events may wait to be sent.
        inlet_capacity: How many received events may wait for the pipe, and one message more.
        rouse: Has the pipe look for arrivals.

    Attributes:
        outbox: What waits to be sent.
        arrivals: What was received and waits for the pipe, in order.
        waiting: Events among the arrivals.
        relayed: Events that the pipe took.
        failed: Events that it could not take, for a fault of its own.
        unknown: Times that events may not have come, and it is not known how many.
        ended: Set when the pipe has ended.
        report: The relay's account, once there is a relay.
    """

    def __init__(self, capacity: int, inlet_capacity: int, rouse: Callable[[], object]) -> None:
        self.outbox = Outbox(capacity)
        self.arrivals: deque[Arrival | Epoch] = deque()
        self.waiting = 0
        self.relayed = 0
        self.failed = 0
        self.unknown = 0
        self.ended = trio.Event()
        self.report: Callable[[], RelayStatistics | None] = lambda: None
        self._has_ended = False
        self._inlet_capacity = inlet_capacity
        self._rouse = rouse
        self._to_send = trio.Event()
        self._room = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def offer(self, events: Sequence[bytes]) -> None:
        """Queue own events to be sent; for the pipe."""
        self.outbox.offer(events)
        self._to_send.set()

    def drop(self, count: int) -> None:
        """Note that events were dropped at the entrance; for the pipe."""
        self.outbox.dropped += count
        self._to_send.set()

    def took(self, arrival: Arrival, count: int) -> None:
        """Take so many events off the first arrival; for the pipe. The rest of it stays the first."""
        self.waiting -= count
        self.relayed += count
        if count < len(arrival.events):
            self.arrivals[0] = arrival.rest(count)
        else:
            self.arrivals.popleft()
            self._room.set()

    def give_up(self) -> None:
        """Let go of the first arrival, which cannot be taken; for the pipe."""
        arrival = self.arrivals.popleft()
        if isinstance(arrival, Arrival):
            self.waiting -= len(arrival.events)
            self.failed += len(arrival.events)
        self._room.set()

    def end(self) -> None:
        """Let the relay send what waits, and return. Any thread; for the pipe."""
        self._has_ended = True
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._tell_end)

    def _tell_end(self) -> None:
        self.ended.set()
        self._to_send.set()

    def attend(self) -> None:
        """Note in which run of Trio the relay is; for the relay, like all that follows."""
        self._token = trio.lowlevel.current_trio_token()
        if self._has_ended:
            self._tell_end()

    def nudge(self) -> None:
        """Wake what waits for something to send."""
        self._to_send.set()

    def bell(self) -> trio.Event:
        """Return what is set when there is something new to send from now on, or the pipe ends."""
        self._to_send = trio.Event()
        if self.ended.is_set():
            self._to_send.set()
        return self._to_send

    def push(self, arrival: Arrival | Epoch) -> None:
        """Hand something to the pipe."""
        self.arrivals.append(arrival)
        if isinstance(arrival, Arrival):
            self.waiting += len(arrival.events)
            self.unknown += arrival.lost is None
        self._rouse()

    @property
    def has_room(self) -> bool:
        """Whether the pipe can take another message."""
        return self.waiting < self._inlet_capacity and len(self.arrivals) < MAX_ARRIVALS

    async def until_room(self) -> None:
        """Wait until the pipe can take another message; a checkpoint."""
        await trio.lowlevel.checkpoint()
        while not self.has_room:
            self._room = trio.Event()
            await self._room.wait()

"""Batches: events that are encoded once and then shared by every client.

A batch never changes, so any number of clients may hold it. Its payload is joined
once, when the first client writes it.
"""

from collections.abc import Callable, Sequence
from itertools import compress
from typing import NamedTuple

import msgspec

from ._event import Event
from ._report import FaultReport
from ._sse import MissedReason, missed_frame

EventFilter = Callable[[Event], bool]
"""Says whether a client wants an event."""


class Batch:
    """Events with their frames, in order.

    Attributes:
        events: The events.
        frames: Each event's bytes on the wire, in the same order.
        times: When each came in at the earliest, by the clock of the pipe's run.
    """

    __slots__ = ("_payload", "events", "frames", "times")

    def __init__(self, events: Sequence[Event], frames: Sequence[bytes], times: Sequence[float]) -> None:
        self.events: Sequence[Event] = events
        self.frames: Sequence[bytes] = frames
        self.times: Sequence[float] = times
        self._payload: bytes | None = None

    def __len__(self) -> int:
        return len(self.events)

    def payload(self) -> bytes:
        """Return all frames as one bytes object, the same one for every caller."""
        if self._payload is None:
            self._payload = b"".join(self.frames)
        return self._payload

    def part(self, start: int, stop: int | None = None) -> "Batch":
        """Return the events from ``start`` to ``stop``, counted as in a slice."""
        if start == 0 and (stop is None or stop >= len(self)):
            return self
        return Batch(self.events[start:stop], self.frames[start:stop], self.times[start:stop])

    def head(self, max_bytes: int) -> "Batch":
        """Return as many of the first events as fit ``max_bytes``, one at least."""
        if self._payload is not None and len(self._payload) <= max_bytes:
            return self
        size = 0
        for index, frame in enumerate(self.frames):
            size += len(frame)
            if size > max_bytes and index:
                return self.part(0, index)
        return self

    def select(self, wanted: EventFilter | None, faults: FaultReport) -> "Batch":
        """Return the events that a filter lets through: not those for which it raises."""
        if wanted is None:
            return self
        return self.only([_wants(wanted, event, faults) for event in self.events])

    def only(self, chosen: Sequence[bool]) -> "Batch":
        """Return the events for which ``chosen`` is true."""
        if all(chosen):
            return self
        return Batch(
            list(compress(self.events, chosen)),
            list(compress(self.frames, chosen)),
            list(compress(self.times, chosen)),
        )


def _wants(wanted: EventFilter, event: Event, faults: FaultReport) -> bool:
    try:
        return bool(wanted(event))
    except Exception as error:
        faults.note("a filter raised, and its client did not get the event", error)
        return False


class Missed(msgspec.Struct, frozen=True, gc=False, rename={"count": "missed"}):
    """A gap: so many events are missing here. Immutable.

    Attributes:
        reason: Why they were lost: ``"slow"`` (this client), ``"overload"`` (the pipe's entrance was
            full), ``"history"`` (this client came back too late) or ``"relay"`` (lost between workers).
        count: How many, or ``None`` where it cannot be known.
    """

    reason: MissedReason
    count: int | None

    def payload(self) -> bytes:
        """Return the frame that tells a client."""
        return missed_frame(self.reason, self.count)


class Gap(NamedTuple):
    """How many events were lost behind others. None: it cannot be known."""

    dropped: int | None = 0  # at an entrance
    unrelayed: int | None = 0  # on the way from other workers

    def uncounted(self) -> "Gap":
        """Return the same for somebody who may have seen a part of them."""
        return Gap(self.dropped and None, self.unrelayed and None)


NO_GAP = Gap()

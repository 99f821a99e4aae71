"""The log: what was broadcast of late, in order, with the gaps where events were dropped.

It serves two kinds of clients. Those that are connected each have a `Place` in it and
are offered everything from there on, in one go, when it is their turn; so a write
carries all that came since the last one, and clients in step share the bytes. Those
that come back are given what the log still keeps.

Events are numbered from 1 in the order in which they were broadcast. An event's ID is
``<run>-<number>``; the run part is drawn anew for each log, so that an ID from before a
restart is never taken for one of this life.
"""

import re
from bisect import bisect_left
from secrets import token_hex
from typing import NamedTuple

from ._batch import Batch, Missed
from ._event import Event

TRIM_AT = 256
"""Events that may be held beyond need before they are let go of, all at once."""


class Place(NamedTuple):
    """So many events were broadcast before it, and so many dropped at the entrance."""

    events: int
    dropped: int


class Stretch(NamedTuple):
    """Events that follow on each other, and how many were dropped behind them.

    Either part may be empty.
    """

    batch: Batch
    dropped: int


class Log:
    """The last events: at least ``keep``, and all that some client was not yet offered.

    Attributes:
        head: The place behind everything: where a new client begins.
        pending: The bytes of events that the hindmost client was not yet offered.
    """

    def __init__(self, keep: int) -> None:
        self.head = Place(0, 0)
        self.pending = 0
        self._keep = keep
        run = token_hex(4)
        self._prefix = run.encode("ascii") + b"-"
        self._id_pattern = re.compile(rf"{run}-([0-9]{{1,18}})", re.ASCII)
        self._start = 0  # events that are no longer held
        self._offered = 0  # events that all clients were offered
        self._events: list[Event] = []
        self._frames: list[bytes] = []
        # Where events were dropped: the place behind each gap.
        self._gaps: list[Place] = []
        self._last_gap_let_go, self._dropped_let_go = -1, 0

    def event_id(self, offset: int) -> bytes:
        """Return the ID of the event that comes ``offset`` after the last one."""
        return b"%b%d" % (self._prefix, self.head.events + offset)

    def extend(self, batch: Batch) -> None:
        """Append events whose frames carry the next IDs."""
        size = sum(map(len, batch.frames))
        self._events.extend(batch.events)
        self._frames.extend(batch.frames)
        # Last, so that what could not be appended was never there.
        self.pending += size
        self.head = Place(self.head.events + len(batch), self.head.dropped)

    def add_gap(self, dropped: int) -> None:
        """Note that so many events were dropped behind the last one."""
        self.head = Place(self.head.events, self.head.dropped + dropped)
        if self._gaps and self._gaps[-1][0] == self.head.events:
            self._gaps.pop()
        self._gaps.append(self.head)

    def since(self, place: Place) -> list[Stretch]:
        """Return everything from a place on that is still held."""
        stretches: list[Stretch] = []
        begin, told = place.events - self._start, place.dropped
        for position, dropped in self._gaps[bisect_left(self._gaps, (place.events, told + 1)) :]:
            end = position - self._start
            batch = Batch(self._events[begin:end], self._frames[begin:end])
            stretches.append(Stretch(batch, dropped - told))
            begin, told = end, dropped
        if begin < len(self._events):
            stretches.append(Stretch(Batch(self._events[begin:], self._frames[begin:]), 0))
        return stretches

    def resume(self, last_event_id: str) -> tuple[Missed | None, Place]:
        """Return where a client goes on that comes back, and what it has missed for good.

        The count is unknown where events were dropped among those that are gone, and for an
        ID that is none of this log's or was never given out. Nothing that is kept can have
        been seen under such an ID, so that client is given all of it.
        """
        match = self._id_pattern.fullmatch(last_event_id)
        seen = int(match[1]) if match else -1
        oldest = max(self.head.events - self._keep, self._start)
        begin = max(seen, oldest) if seen <= self.head.events else oldest
        gaps_before = bisect_left(self._gaps, (begin, 0))
        told = self._gaps[gaps_before - 1][1] if gaps_before else self._dropped_let_go
        lost: Missed | None = None
        if not 0 <= seen <= self.head.events:
            lost = Missed("history", None)
        elif seen < oldest:
            has_gaps = seen <= self._last_gap_let_go or bisect_left(self._gaps, (seen, 0)) < gaps_before
            lost = Missed("history", None if has_gaps else oldest - seen)
        return lost, Place(begin, told)

    def settle(self, place: Place) -> None:
        """Note that all clients were offered what comes before a place."""
        if place.events == self._offered:
            return
        self.pending -= sum(map(len, self._frames[self._offered - self._start : place.events - self._start]))
        self._offered = place.events
        excess = min(self._offered, self.head.events - self._keep) - self._start
        if excess >= TRIM_AT:
            self._start += excess
            del self._events[:excess]
            del self._frames[:excess]
            gaps = bisect_left(self._gaps, (self._start, 0))
            if gaps:
                self._last_gap_let_go, self._dropped_let_go = self._gaps[gaps - 1]
                del self._gaps[:gaps]

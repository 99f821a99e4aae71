"""The log: what was broadcast of late, in order, with the gaps where events were dropped.

It serves two kinds of clients. Those that are connected each have a `Place` in it and
are offered everything from there on, in one go, when it is their turn; so a write
carries all that came since the last one, and clients in step share the bytes. Those
that come back are given what the log still keeps.

Events are numbered from 1 in the order in which they were broadcast. An event's ID is
``<run>-<number>``; the run part is drawn anew for each log, so that an ID from before a
restart is never taken for one of this life. With a relay the ID goes on, so that other
workers understand it too: see ``_sight.py``.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import count
from secrets import token_hex
from typing import NamedTuple

from ._batch import Batch, Gap, Missed
from ._event import Event
from ._sight import Seen, Spot, add_seen, parse_seen, seen_in
from ._trail import Trail

TRIM_AT = 256
"""Events that may be held beyond need before they are let go of, all at once."""


class Place(NamedTuple):
    """What was broadcast before it, and what was lost; each number only grows."""

    events: int
    dropped: int = 0  # at the entrance
    unrelayed: int = 0  # on the way from other workers
    unsure: int = 0  # times that something may have been, of which the number is unknown


class Stretch(NamedTuple):
    """Events that follow on each other, and what was lost behind them.

    Either part may be empty.
    """

    batch: Batch
    gap: Gap


class Log:
    """The last events: at least ``keep``, and all that some client was not yet offered.

    Attributes:
        head: The place behind everything: where a new client begins.
        pending: The bytes of events that the hindmost client was not yet offered.
        run: The run part of its IDs.
        is_shared: Whether a relay brings events, so that an ID has to say more.
        trail: Where its events came from.
    """

    def __init__(self, keep: int) -> None:
        self.head = Place(0)
        self.pending = 0
        self.is_shared = False
        self._keep = keep
        run = token_hex(4)
        self.run: bytes = run.encode("ascii")
        self.trail = Trail(self.run)
        self._id_pattern = re.compile(rf"{run}-([0-9]{{1,18}})", re.ASCII)
        self._start = 0  # events that are no longer held
        self._offered = 0  # events that all clients were offered
        self._events: list[Event] = []
        self._frames: list[bytes] = []
        self._times: list[float] = []
        # Where events were dropped: the place behind each gap.
        self._gaps: list[Place] = []
        self._last_gap_let_go: Place | None = None

    def event_id(self, offset: int) -> bytes:
        """Return the ID of the own event that comes ``offset`` after the last one."""
        number = self.head.events + offset
        return b"%b-%d%b" % (self.run, number, self.trail.suffix(offset) if self.is_shared else b"")

    def relayed_ids(self, spot: Spot) -> Iterator[bytes]:
        """Return the IDs of events that come next from another worker, at a spot of the stream."""
        suffix = self.trail.suffix_at(spot)
        for offset in count(1):
            number = self.head.events + offset
            yield b"%b-%d%b%d" % (self.run, number, suffix, spot.offset + offset)

    def extend(self, batch: Batch) -> None:
        """Append own events whose frames carry the next IDs."""
        self._append(batch)
        self.trail.own += len(batch)

    def extend_relayed(self, batch: Batch, run: bytes, first: int, spot: Spot) -> None:
        """Append another worker's events whose frames carry the next IDs; see `Trail.add`."""
        position = self.head.events
        self._append(batch)
        self.trail.add(position, len(batch), run, first, spot)

    def _append(self, batch: Batch) -> None:
        size = sum(map(len, batch.frames))
        held = self.head.events - self._start
        if len(self._events) > held:  # a batch could not be appended whole
            del self._events[held:], self._frames[held:], self._times[held:]
        self._events.extend(batch.events)
        self._frames.extend(batch.frames)
        self._times.extend(batch.times)
        # Last, so that what could not be appended was never there.
        self.pending += size
        events, *lost = self.head
        self.head = Place(events + len(batch), *lost)

    def add_gap(self, dropped: int, unrelayed: int | None = 0) -> None:
        """Note that so many events were lost behind the last one; see `Gap`."""
        before = self.head
        self.head = Place(
            before.events,
            before.dropped + dropped,
            before.unrelayed + (unrelayed or 0),
            before.unsure + (unrelayed is None),
        )
        if self._gaps and self._gaps[-1].events == self.head.events:
            self._gaps.pop()
        self._gaps.append(self.head)

    def gap_since(self, place: Place) -> Gap:
        """Return how many events were lost since a place."""
        return _between(place, self.head)

    def since(self, place: Place, seen: Seen = (), *, replay: bool = False) -> list[Stretch]:
        """Return everything from a place on that is still held.

        Args:
            place: Where to begin.
            seen: What a client saw elsewhere: it is left out, and the IDs say it too.
            replay: See `Trail.unseen`.
        """
        events, frames, times, start = self._events, self._frames, self._times, self._start
        wanted: list[bool] = []
        if seen:
            events, times = events[place.events - start :], times[place.events - start :]
            start = place.events
            wanted = self.trail.unseen(start, self.head.events, seen, replay=replay)
            frames = self._frames_beyond(seen, frames[start - self._start :], wanted)
        stretches: list[Stretch] = []
        told = place
        ends = self._gaps[bisect_right(self._gaps, place) :]
        if (ends[-1] if ends else place).events < self.head.events:
            ends.append(self.head)
        for end in ends:
            part = slice(told.events - start, end.events - start)
            batch = Batch(events[part], frames[part], times[part])
            stretches.append(Stretch(batch.only(wanted[part]) if wanted else batch, _between(told, end)))
            told = end
        return stretches

    def _frames_beyond(self, seen: Seen, frames: Sequence[bytes], wanted: Sequence[bool]) -> list[bytes]:
        """Return frames whose IDs say what a client has seen of the events behind them."""
        last_seen = len(wanted) - wanted[::-1].index(False) if False in wanted else 0
        ahead = self.trail.not_passed(seen)
        passed = [sight for sight in seen if sight not in ahead]
        # What has passed by now had not yet before each of these events, and their IDs do not say it.
        all_due = bisect_left(
            frames, True, lo=last_seen, key=lambda frame: self.trail.covers(seen_in(frame), passed)
        )
        rest = frames[all_due:]
        return [
            *(add_seen(frame, seen) for frame in frames[:all_due]),
            *((add_seen(frame, ahead) for frame in rest) if ahead else rest),
        ]

    def seen_elsewhere(self, last_event_id: str) -> Seen:
        """Return what a client saw on other workers that comes with an ID."""
        seen = parse_seen(last_event_id) if self.is_shared else ()
        return seen[1:] if seen and seen[0].run == self.run else seen

    def not_passed(self, seen: Seen) -> Seen:
        """Return of what a client saw elsewhere what has not come by here."""
        return self.trail.not_passed(seen)

    def _resume_elsewhere(self, seen: Seen) -> tuple[Missed | None, Place]:
        unsure, begin = self.trail.resume(self._start, self.head.events, seen)
        wanted = self.trail.unseen(begin, self.head.events, seen, replay=True)
        begin = begin + wanted.index(True) if True in wanted else self.head.events
        return Missed("history", None) if unsure else None, self._place_at(begin)

    def _place_at(self, events: int) -> Place:
        """Return the place behind so many events, and before any gap that follows on them."""
        gaps_before = bisect_left(self._gaps, Place(events))
        told = self._gaps[gaps_before - 1] if gaps_before else self._last_gap_let_go
        return Place(events) if told is None else told._replace(events=events)

    def resume(self, last_event_id: str) -> tuple[Missed | None, Place]:
        """Return where a client goes on that comes back, and what it has missed for good.

        The count is unknown where events were dropped among those that are gone, and for an
        ID that is none of this log's or was never given out. Nothing that is kept can have
        been seen under such an ID, so that client is given all of it. An ID of another worker
        is compared with what that worker has of this one, and this one of it.
        """
        seen_by_all = parse_seen(last_event_id) if self.is_shared else ()
        if seen_by_all and seen_by_all[0].run != self.run:
            return self._resume_elsewhere(seen_by_all)
        own_id = last_event_id.partition(".")[0] if seen_by_all else last_event_id
        match = self._id_pattern.fullmatch(own_id)
        seen = int(match[1]) if match else -1
        oldest = max(self.head.events - self._keep, self._start)
        begin = max(seen, oldest) if seen <= self.head.events else oldest
        lost: Missed | None = None
        if not 0 <= seen <= self.head.events:
            lost = Missed("history", None)
        elif seen < oldest:
            gap_let_go = self._last_gap_let_go
            has_gaps = (gap_let_go is not None and seen <= gap_let_go.events) or (
                bisect_left(self._gaps, Place(seen)) < bisect_left(self._gaps, Place(begin))
            )
            lost = Missed("history", None if has_gaps else oldest - seen)
        return lost, self._place_at(begin)

    def replay(self, last_event_id: str) -> tuple[Missed | None, list[Stretch]]:
        """Return what a client that comes back has missed for good, and what is still held for it."""
        lost, place = self.resume(last_event_id)
        seen = self.seen_elsewhere(last_event_id)
        stretches = self.since(place, seen, replay=True)
        if seen:
            # Of what a replay leaves out, it may not have seen all.
            unseen = self.trail.unseen(place.events, self.head.events, seen, replay=False)
            if sum(len(batch) for batch, _ in stretches) < sum(unseen):
                lost = Missed("history", None)
            # What another worker lost, or this one, need not be the same.
            stretches = [Stretch(batch, gap.uncounted()) for batch, gap in stretches]
        return lost, stretches

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
            del self._times[:excess]
            gaps = bisect_left(self._gaps, Place(self._start))
            if gaps:
                self._last_gap_let_go = self._gaps[gaps - 1]
                del self._gaps[:gaps]
            self.trail.let_go(self._start)


def _between(before: Place, after: Place) -> Gap:
    unrelayed = None if after.unsure > before.unsure else after.unrelayed - before.unrelayed
    return Gap(after.dropped - before.dropped, unrelayed)

"""The trail: which events of a log came from other workers, and what a client saw there.

From it a log knows which of its events a client that comes from another worker has seen there,
and whether it may have missed some: what an ID says of that is in ``_sight.py``.

No tasks, no I/O.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from ._sight import MAX_BEFORE, NO_EPOCH, START, Seen, Sight, Spot

MAX_WORKERS = 4096
"""Workers that are remembered: those heard of last."""

FORGET_MS = 600_000
"""After so much of the server's time, what a worker has not sent is taken for lost with it."""

ALL = 1_000_000_000
"""More events than a message has."""

PAST_EPOCHS = 16
"""Epochs that are remembered: of an older one nothing more can come."""


class Segment(NamedTuple):
    """Events of another worker that follow on each other in the log, all of one message."""

    position: int  # so many events of the log are before it
    own_before: int
    size: int
    run: bytes
    first: int
    epoch: bytes
    spot: Spot  # of the message, without its events


class Echo(NamedTuple):
    """Own events that follow on each other, as they came back from the stream."""

    last: int
    first: int
    epoch: bytes
    spot: Spot  # up to the first of them


class Trail:
    """Where the events of a log came from, as long as it holds them.

    Attributes:
        run: The run part of the log's IDs.
        own: So many of the log's events are this worker's own.
        epoch: Of the shared stream; ``NO_EPOCH`` before it was ever reached.
        spot: The stream was read up to here, and all of it that is new is in the log.
    """

    def __init__(self, run: bytes) -> None:
        self.run = run
        self.own = 0
        self.epoch = NO_EPOCH
        self.spot = START
        self._last_of: dict[bytes, int] = {}
        self._segments: list[Segment] = []
        self._echoes: list[Echo] = []
        # What comes before is not held: up to here in the stream, and so many own and foreign events.
        self._floor = START
        self._own_let_go = self._foreign_let_go = 0
        self._began_at = 0
        self._first_ms = 0  # where in the epoch it was begun to read
        self._doubted = 0  # own events up to here that did not come back may have been lost there since
        self._past = [NO_EPOCH]
        self._set_suffix()

    def begin(self, epoch: bytes, floor: Spot, position: int) -> None:
        """Note that from here on the stream is read from ``floor`` on, in an epoch that is new.

        Args:
            epoch: Its name.
            floor: What comes before in the stream is unknown.
            position: So many events are in the log.
        """
        if self.epoch != NO_EPOCH:
            self._began_at = position
            self._past = [*self._past[-PAST_EPOCHS:], self.epoch]
        self.epoch, self.spot, self._floor = epoch, floor, floor
        self._first_ms = floor.ms
        self._set_suffix()

    def suffix(self, own_offset: int) -> bytes:
        """Return the end of the ID of the own event that comes ``own_offset`` after the last one."""
        return b".%d%b" % (self.own + own_offset, self._suffix)

    def suffix_at(self, spot: Spot) -> bytes:
        """Return the end of the ID of another worker's event, but for its offset."""
        return b".%d.%b.%x-%x." % (self.own, self.epoch, spot.ms, spot.n)

    def _set_suffix(self) -> None:
        self._suffix = b".%b.%x-%x.%d" % (self.epoch, *self.spot)

    def add(self, position: int, count: int, run: bytes, first: int, spot: Spot) -> None:
        """Note that events of another worker come next.

        Args:
            position: So many events are in the log.
            count: So many are added.
            run: The worker's.
            first: The first one's number among the worker's own.
            spot: Where in the stream, up to the first of them.
        """
        self._segments.append(Segment(position, self.own, count, run, first, self.epoch, spot))
        self._last_of.pop(run, None)
        self._last_of[run] = first + count - 1
        if len(self._last_of) > MAX_WORKERS:
            del self._last_of[next(iter(self._last_of))]
        self.read_to(spot._replace(offset=spot.offset + count))

    def read_to(self, spot: Spot) -> None:
        """Note that the stream has nothing more up to here."""
        # A loss is told at the message that was read last, and that place does not say how many events it has.
        self.spot = max(self.spot, spot)
        self._first_ms = self._first_ms or spot.ms
        self._set_suffix()

    def doubt(self) -> None:
        """Note that the stream may have lost something that only others have read."""
        if not self._all_came_back():
            self._doubted = self.own

    def echo(self, first: int, count: int, spot: Spot) -> None:
        """Note where own events are in the stream. The first time counts: others have it from there."""
        last = first + count - 1
        new = max(first, self._echoes[-1].last + 1) if self._echoes else first
        if new <= last:
            self._echoes.append(Echo(last, new, self.epoch, spot._replace(offset=new - first)))
            self._raise_floor()
        self.read_to(spot._replace(offset=count))

    def not_passed(self, seen: Seen) -> Seen:
        """Return of what a client saw elsewhere what has not come by here."""
        return tuple(sight for sight in seen if not self._has_passed(sight))

    def _has_passed(self, sight: Sight) -> bool:
        if sight.epoch == self.epoch:
            if self.spot < sight.spot:
                return False
        elif sight.epoch not in self._past:
            return self._is_old(sight.spot.ms or self.spot.ms)
        return (
            # Of a stream that has begun anew, a client may have seen the worker's own events and nothing else.
            self._is_old(sight.spot.ms or self._first_ms)
            or sight.run == self.run
            or self._last_of.get(sight.run, 0) >= sight.own
        )

    def covers(self, said: Seen, passed: Iterable[Sight]) -> bool:
        """Whether an ID of this worker says all of what a client saw elsewhere that has passed by now.

        If one does, all that come later do.

        Args:
            said: What the ID says.
            passed: What the client saw.
        """
        return all(
            own.epoch == self.epoch and (sight.epoch != self.epoch or own.spot >= sight.spot)
            for own in said
            for sight in passed
        )

    def _is_old(self, ms: int) -> bool:
        return self.spot.ms > ms + FORGET_MS

    def unseen(self, begin: int, end: int, seen: Seen, *, replay: bool) -> list[bool]:
        """Return for the log's events from ``begin`` to ``end`` which of them a client did not see.

        Args:
            begin: So many events come before the first one.
            end: The same for the one behind the last.
            seen: What the client saw.
            replay: Whether it may have seen own events of this worker that did not come back
                from the stream yet: those it gets if it was not ahead of this worker.
        """
        wanted: list[bool] = []
        index = bisect_right(self._segments, begin, key=lambda segment: segment.position + segment.size)
        position = begin
        while position < end:
            segment = self._segments[index] if index < len(self._segments) else None
            stop = end if segment is None else min(max(segment.position, position), end)
            if stop > position:
                own = position - self._foreign_before(index)
                wanted += self._own_unseen(own, own + stop - position, seen, replay)
            if segment is not None and stop < end:
                last = min(segment.position + segment.size, end)
                wanted += _beyond(_seen_of(segment, seen), stop - segment.position, last - segment.position)
                stop = last
                index += 1
            position = stop
        return wanted

    def _foreign_before(self, index: int) -> int:
        """Return how many events of others are before the own events in front of a segment."""
        if index < len(self._segments):
            segment = self._segments[index]
            return segment.position - segment.own_before
        if self._segments:
            segment = self._segments[-1]
            return segment.position + segment.size - segment.own_before
        return self._foreign_let_go

    def _own_unseen(self, begin: int, end: int, seen: Seen, replay: bool) -> list[bool]:
        wanted: list[bool] = []
        index = self._echo_index(begin + 1)
        while begin < end:
            echo = self._echoes[index] if index < len(self._echoes) else None
            stop = end if echo is None else min(echo.last, end)
            wanted += _beyond(self._seen_of_own(echo, stop, seen, replay), begin, stop)
            begin, index = stop, index + 1
        return wanted

    def _seen_of_own(self, echo: Echo | None, end: int, seen: Seen, replay: bool) -> int:
        """Return the last own event up to ``end``, none of which is behind an echo, that is not to be given."""
        most = 0
        for sight in seen:
            if sight.run == self.run:
                most = max(most, sight.own)
                continue
            most = max(most, _seen_of_echo(echo, sight))
            if replay:
                not_back = end if echo is None else min(end, echo.first - 1)
                most = max(most, min(not_back, self._doubted) if self._is_sure(sight) else not_back)
        return most

    def _echo_of(self, number: int) -> Echo | None:
        found = self._echo_at_or_after(number)
        return found if found is not None and found.first <= number else None

    def _echo_at_or_after(self, number: int) -> Echo | None:
        index = self._echo_index(number)
        return self._echoes[index] if index < len(self._echoes) else None

    def _echo_index(self, number: int) -> int:
        return bisect_left(self._echoes, number, key=lambda echo: echo.last)

    def _is_sure(self, sight: Sight) -> bool:
        """Whether own events that did not come back cannot have been seen elsewhere."""
        return sight.epoch == NO_EPOCH or (self.epoch == sight.epoch and self.spot >= sight.spot)

    def resume(self, start: int, head: int, seen: Seen) -> tuple[bool, int]:
        """Return whether a client may have missed something for good, and where it goes on.

        Args:
            start: So many events are no longer in the log.
            head: So many events there have been.
            seen: What the client saw elsewhere.
        """
        last = next((sight for sight in seen if sight.epoch != NO_EPOCH), None)
        if last is None:
            return True, start  # it saw nothing of others
        if last.epoch != self.epoch:
            return True, head  # the two cannot be compared
        sure = (
            len(seen) <= MAX_BEFORE
            and self._began_at <= start
            and self._floor <= last.spot
            and (self._own_let_go == 0 or self._echo_of(self._own_let_go) is not None)
            and (all(map(self._is_sure, seen)) or self._all_came_back())
            and all(map(self._is_past_doubt, seen))
        )
        return not sure, max(start, self._began_at)

    def _is_past_doubt(self, sight: Sight) -> bool:
        """Whether it is known what a client saw elsewhere of the own events that are doubted, or missed."""
        echo = self._echo_at_or_after(self._doubted + 1)
        return (
            self._doubted <= self._own_let_go
            or sight.run == self.run
            or self._doubted < _seen_of_echo(echo, sight)
        )

    def _all_came_back(self) -> bool:
        return self.own == 0 or (bool(self._echoes) and self._echoes[-1].last >= self.own)

    def let_go(self, start: int) -> None:
        """Let go of what the log no longer holds: its first ``start`` events."""
        gone = bisect_right(self._segments, start, key=lambda segment: segment.position + segment.size)
        foreign = self._foreign_let_go
        for segment in self._segments[:gone]:
            foreign = segment.position + segment.size - segment.own_before
            if segment.epoch == self.epoch:
                end = segment.spot._replace(offset=segment.spot.offset + segment.size)
                self._floor = max(self._floor, end)
        del self._segments[:gone]
        self._foreign_let_go = foreign
        if self._segments and self._segments[0].position < start:
            segment = self._segments[0]
            self._own_let_go = segment.own_before
            if segment.epoch == self.epoch:
                part = start - segment.position
                self._floor = max(self._floor, segment.spot._replace(offset=segment.spot.offset + part))
        else:
            self._own_let_go = start - self._foreign_before(0)
        self._raise_floor()

    def _raise_floor(self) -> None:
        """Take own events that are no longer held into account, as far as they came back."""
        echo = self._echo_of(self._own_let_go)
        if echo is not None and echo.epoch == self.epoch:
            self._floor = max(self._floor, _spot_in(echo, self._own_let_go))
        del self._echoes[: self._echo_index(self._own_let_go)]


def _seen_of(segment: Segment, seen: Seen) -> int:
    """Return how many of a segment's events, the first ones, a client saw."""
    most = 0
    for sight in seen:
        if segment.run == sight.run:
            most = max(most, sight.own - segment.first + 1)
        elif segment.epoch == sight.epoch:
            most = max(most, _passed(segment.spot, sight.spot))
    return most


def _seen_of_echo(echo: Echo | None, sight: Sight) -> int:
    """Return the last own event that a client saw elsewhere in an echo, or 0.

    It is done with those too that are before the echo and never came back: it was told there that it
    missed them, and here they would come out of order.
    """
    if echo is None or echo.epoch != sight.epoch:
        return 0
    passed = _passed(echo.spot, sight.spot)
    return echo.first - 1 + passed if passed else 0


def _passed(spot: Spot, until: Spot) -> int:
    """Return how many events of the message at a spot are behind that and not behind another spot."""
    if spot[:2] == until[:2]:
        return max(until.offset - spot.offset, 0)
    return ALL if spot < until else 0


def _beyond(number: int, begin: int, end: int) -> list[bool]:
    """Return for the events from ``begin`` to ``end`` whether they are behind so many."""
    count = min(max(number - begin, 0), end - begin)
    return [False] * count + [True] * (end - begin - count)


def _spot_in(echo: Echo, number: int) -> Spot:
    return echo.spot._replace(offset=echo.spot.offset + number - echo.first + 1)

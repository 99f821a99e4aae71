"""What waits to be sent to other workers: bounded, counted, and sent in batches. No tasks, no I/O.

offered == sent + lost + queued
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice, repeat
from typing import NamedTuple

MAX_BYTES = 16_777_216
"""Bytes of JSON that may wait at most: a tenth of a second's worth at the entrance may be large."""


class Load(NamedTuple):
    """Events that follow on each other."""

    first: int  # one's number
    dropped: int  # at the pipe's entrance, before them
    events: list[bytes]  # their JSON


class Outbox:
    """A bounded queue of encoded events, numbered from 1 in the order in which they came.

    What does not fit is lost, and its numbers with it: so those who get the rest know.

    Args:
        capacity: How many events may wait.

    Attributes:
        offered: Events that came so far.
        sent: Events that were sent.
        lost: Events for which there was no room.
        dropped: Events dropped at the pipe's entrance, before those that come next.
        under_way: The number of the last event that the server was given, though it may not have
            confirmed it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.offered = self.sent = self.lost = self.dropped = self.under_way = 0
        self._waiting: deque[tuple[int, int, bytes]] = deque()  # number, dropped before it, JSON
        self._bytes = 0

    @property
    def queued(self) -> int:
        """Events that wait."""
        return len(self._waiting)

    @property
    def stand(self) -> Load:
        """Where the queue stands: what is to be sent next, without its events."""
        return self._stand_behind(0)

    def _stand_behind(self, count: int) -> Load:
        if len(self._waiting) > count:
            number, dropped, _ = self._waiting[count]
            return Load(number, dropped, [])
        return Load(self.offered + 1, self.dropped, [])

    def offer(self, events: Sequence[bytes]) -> None:
        """Queue events, or as many of them as there is room for."""
        size = sum(map(len, events))
        if len(self._waiting) + len(events) <= self.capacity and self._bytes + size <= MAX_BYTES:
            numbers = range(self.offered + 1, self.offered + len(events) + 1)
            self._waiting.extend(zip(numbers, repeat(self.dropped), events, strict=False))
            self.offered += len(events)
            self._bytes += size
            return
        for data in events:
            self.offered += 1
            if len(self._waiting) < self.capacity and self._bytes + len(data) <= MAX_BYTES:
                self._waiting.append((self.offered, self.dropped, data))
                self._bytes += len(data)
            else:
                self.lost += 1

    def peek(self, max_events: int, max_bytes: int, skip: int = 0) -> Load:
        """Return what is to be sent next, one event at least if any waits; it stays queued.

        Args:
            max_events: So many of them at most.
            max_bytes: So many bytes of JSON, with their commas, at most.
            skip: So many events are under way already.
        """
        load = self._stand_behind(skip)
        next_number, before, events = load
        room = max_bytes
        for number, dropped, data in islice(self._waiting, skip, skip + max_events):
            room -= len(data) + 1
            follows = number == next_number and dropped == before
            if not follows or (room < 0 and events):
                break
            events.append(data)
            next_number += 1
        return load

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the server was given events of which it is not known that it has them."""
        return bool(self._waiting) and self._waiting[0][0] <= self.under_way

    def confirm(self, number: int) -> None:
        """Take what the server has off the queue: what it was given, up to a number."""
        self.sent += self._let_go(min(number, self.under_way))

    def retract(self) -> None:
        """Have what the server was given, and certainly does not have, wait as if it never was."""
        self.under_way = 0

    def abandon(self) -> None:
        """Count as lost what the server was given and does not have."""
        self.lost += self._let_go(self.under_way)

    def discard(self) -> int:
        """Count as lost all that waits, and return how many."""
        rest = self._let_go(self.offered)
        self.lost += rest
        return rest

    def _let_go(self, number: int) -> int:
        before = len(self._waiting)
        while self._waiting and self._waiting[0][0] <= number:
            self._bytes -= len(self._waiting.popleft()[2])
        return before - len(self._waiting)

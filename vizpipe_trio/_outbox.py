"""What waits to be sent to other workers: bounded, counted, and sent in batches. No tasks, no I/O.

    offered == sent + lost + queued
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

MAX_BYTES = 16_777_216
"""Bytes of JSON that may wait at most: a tenth of a second's worth at the entrance may be large."""


class Load(NamedTuple):
    """Events that follow on each other: the first one's number, and the JSON of each."""

    first: int
    events: list[bytes]


class Outbox:
    """A bounded queue of encoded events, numbered from 1 in the order in which they came.

    What does not fit is lost, and its numbers with it: so those who get the rest know.

    Args:
        capacity: How many events may wait.

    Attributes:
        offered: Events that came so far.
        sent: Events that were sent.
        lost: Events for which there was no room.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.offered = self.sent = self.lost = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._bytes = 0

    @property
    def queued(self) -> int:
        """Events that wait."""
        return len(self._waiting)

    @property
    def bytes_queued(self) -> int:
        """Bytes of JSON that wait."""
        return self._bytes

    @property
    def next(self) -> int:
        """The number of the event that is to be sent next."""
        return self._waiting[0][0] if self._waiting else self.offered + 1

    def offer(self, events: Sequence[bytes]) -> None:
        """Queue events, or as many of them as there is room for."""
        for data in events:
            self.offered += 1
            if len(self._waiting) < self.capacity and self._bytes + len(data) <= MAX_BYTES:
                self._waiting.append((self.offered, data))
                self._bytes += len(data)
            else:
                self.lost += 1

    def peek(self, max_events: int, max_bytes: int) -> Load:
        """Return what is to be sent next, one event at least if any waits; it stays queued."""
        first = self.next
        load = Load(first, [])
        room = max_bytes
        for number, data in islice(self._waiting, max_events):
            room -= len(data) + 1
            if number != first + len(load.events) or (room < 0 and load.events):
                break
            load.events.append(data)
        return load

    def settle(self, load: Load) -> None:
        """Take what was sent off the queue."""
        for _ in load.events:
            self._bytes -= len(self._waiting.popleft()[1])
        self.sent += len(load.events)

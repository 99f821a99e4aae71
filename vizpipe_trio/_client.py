"""What one client has still to get, and its account. No tasks, no I/O.

The account of a client holds after every call:

    offered == delivered + missed + filtered + queued
"""

from collections import deque

from ._batch import NO_GAP, Batch, EventFilter, Gap, Missed
from ._event import Event
from ._histogram import Histogram
from ._sse import MissedReason

SMALLEST_WRITE = 256
"""Bytes: up to here writes are not told apart by size."""

SHORTEST_LATENCY = 0.001
"""Seconds: up to here writes are not told apart by latency."""

_UNKNOWN = Missed("history", None)

_REASONS: tuple[MissedReason, MissedReason] = ("overload", "relay")
"""Why each part of a `Gap` was lost."""


class Totals:
    """Sums over all clients of a pipe, those that left included."""

    __slots__ = (
        "delivered", "filtered", "history", "latencies", "missed", "overload", "unknown", "unrelayed",
        "writes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.delivered: int = 0
        self.missed: int = 0
        self.filtered: int = 0
        self.overload: int = 0
        self.unrelayed: int = 0
        self.unknown: int = 0
        self.history: int = 0
        self.writes: Histogram = Histogram(SMALLEST_WRITE, 12)
        self.latencies: Histogram = Histogram(SHORTEST_LATENCY, 14)


class ClientQueue:
    """A bounded queue of shared batches that knows where it has gaps.

    It is bounded in events, by ``capacity``. A batch that does not fit whole is cut:
    what fits is queued, the rest is missed. Gaps are merged until the next batch is
    queued, so a client that never reads costs no more than a full queue.
    """

    __slots__ = (
        "_capacity", "_gap", "_items", "_slow", "_taken_of_first",
        "delivered", "filter", "filtered", "missed", "offered", "queued", "totals",
    )  # fmt: skip

    def __init__(self, capacity: int, wanted: EventFilter | None, totals: Totals) -> None:
        self.filter: EventFilter | None = wanted
        self.offered: int = 0
        self.delivered: int = 0
        self.missed: int = 0
        self.filtered: int = 0
        self.queued: int = 0
        self._capacity = capacity
        self.totals: Totals = totals
        self._items: deque[Missed | Batch] = deque()
        self._taken_of_first = 0
        # Lost behind everything that is queued, by reason.
        self._slow = 0
        self._gap = NO_GAP

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._items or self._slow or self._gap is not NO_GAP)

    @property
    def oldest(self) -> float | None:
        """When the event that is next came in at the earliest; None if there is none."""
        batch = next((item for item in self._items if isinstance(item, Batch)), None)
        return None if batch is None else batch.times[self._taken_of_first if batch is self._items[0] else 0]

    def offer(self, offered: int, batch: Batch) -> None:
        """Queue a batch, or as much of it as there is room for.

        Args:
            offered: How many events were broadcast.
            batch: Those of them that this client wants; it may be empty.
        """
        count = len(batch)
        self.offered += offered
        self.filtered += offered - count
        self.totals.filtered += offered - count
        accepted = min(count, self._capacity - self.queued)
        if accepted:
            self._close_gap()
            self._items.append(batch.part(0, accepted))
            self.queued += accepted
        if accepted < count:
            self._miss(count - accepted)

    def lose(self, gap: Gap) -> None:
        """Note what was lost for everybody behind the batch offered last."""
        if gap != NO_GAP:
            self._gap = Gap(_sum(self._gap.dropped, gap.dropped), _sum(self._gap.unrelayed, gap.unrelayed))
            self.totals.overload += gap.dropped or 0
            self.totals.unrelayed += gap.unrelayed or 0
            self.totals.unknown += gap.unrelayed is None

    def take(self, max_bytes: int) -> list[bytes]:
        """Return payloads in order, as many as fit ``max_bytes``; one event or gap at least."""
        payloads: list[bytes] = []
        room = max_bytes
        while self and room > 0:
            if not self._items:
                self._close_gap()
            first = self._items[0]
            part = first.part(self._taken_of_first).head(room) if isinstance(first, Batch) else None
            payload = first.payload() if part is None else part.payload()
            if payloads and len(payload) > room:
                break
            payloads.append(payload)
            room -= len(payload)
            if part is None:
                self._items.popleft()
            else:
                self._take_from_first(len(part))
        return payloads

    def take_event(self) -> Event | None:
        """Return the next event, or None; gaps are passed over."""
        while self._items:
            item = self._items[0]
            if isinstance(item, Batch):
                event = item.events[self._taken_of_first]
                self._take_from_first(1)
                return event
            self._items.popleft()
        self._forget_gap()
        return None

    def abandon(self) -> None:
        """Give up what is queued: it is missed, and only the gap is left to take."""
        self._items = deque(item for item in self._items if isinstance(item, Missed))
        self._taken_of_first = 0
        self._miss(self.queued)
        self.queued = 0

    def write_off(self, offered: int, gap: Gap | None) -> None:
        """Count as missed what of so many events was never queued, because offering them failed.

        The client is told of a loss of unknown size, once for all that follow on each other: its
        filter was not asked.

        Args:
            offered: How many events were broadcast.
            gap: What else was lost with them. If that is not known, the same loss stands for it.
        """
        self.offered = offered
        lost = offered - self.delivered - self.missed - self.filtered - self.queued
        self.missed += lost
        self.totals.history += lost  # as it is told: no client was too slow for it
        if lost or gap is None:
            self._close_gap()
            if not self._items or self._items[-1] is not _UNKNOWN:
                self._items.append(_UNKNOWN)
        if gap is not None:
            self.lose(gap)

    def clear(self) -> None:
        """Let go of what is queued. The account keeps it as queued: never delivered."""
        self._items.clear()
        self._forget_gap()

    def _take_from_first(self, count: int) -> None:
        """Count events of the first batch as delivered, and let go of it after the last one."""
        first = self._items[0]
        self._taken_of_first += count
        if isinstance(first, Batch) and self._taken_of_first == len(first):
            self._items.popleft()
            self._taken_of_first = 0
        self.queued -= count
        self.delivered += count
        self.totals.delivered += count

    def _miss(self, count: int) -> None:
        self._slow += count
        self.missed += count
        self.totals.missed += count

    def _close_gap(self) -> None:
        if self._slow:
            self._items.append(Missed("slow", self._slow))
        if self._gap is not NO_GAP:
            self._items += missed_in(self._gap, exact=self.filter is None)
        self._forget_gap()

    def _forget_gap(self) -> None:
        self._slow = 0
        self._gap = NO_GAP


def missed_in(gap: Gap, *, exact: bool) -> list[Missed]:
    """Return what tells of a gap. How many of the lost a filter would have let through is unknown."""
    return [
        Missed(reason, count if exact else None)
        for reason, count in zip(_REASONS, gap, strict=True)
        if count != 0
    ]


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b

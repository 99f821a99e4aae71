"""What was heard of each worker: which of a message's events are new, and what did not come.

No tasks, no I/O. ``received == new + duplicates``, and all that is new is handed on.
"""

from collections import OrderedDict
from typing import NamedTuple

from ._envelope import Envelope
from ._junction import Arrival
from ._sight import Spot
from ._trail import MAX_WORKERS


class Heard(NamedTuple):
    """Where a worker stands: the number of its next event, and its drops."""

    next: int
    dropped: int


class Origins:
    """Where each worker stands, by the run part of its IDs.

    Attributes:
        received: Events in all messages so far.
        duplicates: Those that had come before.
        lost: Events that did not come, as far as that can be known.
    """

    def __init__(self) -> None:
        self.received = self.duplicates = self.lost = 0
        self._heard: OrderedDict[bytes, Heard] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heard)

    def hear(self, envelope: Envelope, spot: Spot, *, is_baseline: bool) -> Arrival:
        """Return what is new in a message, and what is missing before it.

        Args:
            envelope: The message.
            spot: Its place in the stream.
            is_baseline: Whether a worker that was not heard of is older than this one, so that
                what it did before is not missed. If not, it is younger, or what it said at
                first was lost.
        """
        count = len(envelope.events)
        heard = self._heard.pop(envelope.run, None)
        lost: int | None = 0
        dropped = skip = 0
        if heard is not None:
            lost = max(envelope.first - heard.next, 0)
            dropped = max(envelope.dropped - heard.dropped, 0)
            skip = min(max(heard.next - envelope.first, 0), count)
            self.lost += lost
        elif not is_baseline:
            if envelope.first == 1:
                dropped = envelope.dropped
            else:
                lost = None  # this worker may be younger than some of them
        # Messages that were not confirmed are heard again, in a row: neither number goes back with them.
        stand = Heard(envelope.first + count, envelope.dropped)
        if heard is not None:
            stand = Heard(max(stand.next, heard.next), max(stand.dropped, heard.dropped))
        self._heard[envelope.run] = stand
        if len(self._heard) > MAX_WORKERS:
            self._heard.popitem(last=False)
        self.received += count
        self.duplicates += skip
        return Arrival(
            spot=spot._replace(offset=skip),
            until=spot._replace(offset=count),
            run=envelope.run,
            first=envelope.first + skip,
            events=envelope.events[skip:],
            data=envelope.data[skip:],
            dropped=dropped,
            lost=lost,
        )

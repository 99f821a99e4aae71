"""The bounded history: what a client that comes back can still be given.

Events are numbered from 1 in the order in which they were broadcast. An event's ID
is ``<run>-<sequence>``; the run part is drawn anew for each history, so that an ID
from before a restart is never taken for one of this life.
"""

import re
from collections import deque
from itertools import islice
from secrets import token_hex

from ._batch import Batch, Missed
from ._event import Event


class History:
    """The last events that were broadcast, as many as ``size``, and all their IDs."""

    def __init__(self, size: int) -> None:
        run = token_hex(4)
        self._prefix = run.encode("ascii") + b"-"
        self._id_pattern = re.compile(rf"{run}-([0-9]{{1,18}})", re.ASCII)
        self._last = 0
        self._held: deque[tuple[Event, bytes]] = deque(maxlen=size)

    def event_id(self, offset: int) -> bytes:
        """Return the ID of the event that comes ``offset`` after the last one added."""
        return b"%b%d" % (self._prefix, self._last + offset)

    def add(self, batch: Batch) -> None:
        """Keep a batch whose frames carry the next IDs, and forget what is too old."""
        self._last += len(batch)
        self._held.extend(zip(batch.events, batch.frames, strict=True))

    def since(self, last_event_id: str) -> tuple[Missed | None, Batch]:
        """Return what came after ``last_event_id``: what is lost, and what is held.

        For an ID of another run, or one that was never given out, that is a `Missed`
        with an unknown count, and all that is held: none of it can have been seen
        under such an ID. The batch may be empty.
        """
        match = self._id_pattern.fullmatch(last_event_id)
        seen = int(match[1]) if match else -1
        oldest = self._last - len(self._held) + 1
        lost: Missed | None = None
        if not 0 <= seen <= self._last:
            lost = Missed("history", None)
            seen = 0
        elif seen + 1 < oldest:
            lost = Missed("history", oldest - seen - 1)
        held = tuple(islice(self._held, max(seen + 1 - oldest, 0), None))
        return lost, Batch([event for event, _ in held], [frame for _, frame in held])

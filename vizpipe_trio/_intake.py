"""From the entrance to the log: each event is encoded once, and a gap stands where some were dropped.

Every event that is taken is counted: it is in the log, or it is invalid. No tasks.
"""

from collections import deque
from time import perf_counter

from ._batch import Batch
from ._entrance import Entrance
from ._event import Event
from ._log import Log
from ._report import FaultReport
from ._sse import encode_event, event_frame

TURN_SECONDS = 0.001
"""How long the dispatcher itself may hold the thread, to encode events or to put them
through filters, before the host's other tasks get their turn."""


class Intake:
    """Takes events from an entrance into a log.

    Attributes:
        invalid: Events that could not be encoded, or not be kept.
        broadcast: Events that went into the log, where clients find them.
    """

    def __init__(self, entrance: Entrance, log: Log, faults: FaultReport) -> None:
        self._entrance = entrance
        self._log = log
        self._faults = faults
        self.invalid: int = 0
        self.broadcast: int = 0
        # Drops that are not in the log yet: how many events are to be taken from the
        # entrance before them, and how many they are.
        self._gaps: deque[tuple[int, int]] = deque()
        self._drops_noted = 0

    def note_drops(self) -> None:
        """Note what was dropped since the last look: a gap behind all that waits now."""
        # In this order: what is dropped in between, by a thread, is behind what waits then.
        dropped = self._entrance.dropped
        end = self._taken + len(self._entrance.waiting)
        if dropped > self._drops_noted:
            count = dropped - self._drops_noted
            if self._gaps and self._gaps[-1][0] == end:
                count += self._gaps.pop()[1]
            self._gaps.append((end, count))
            self._drops_noted = dropped

    def take(self, max_write: int) -> None:
        """Take events, until so many bytes are pending for the hindmost client or time is up."""
        self.note_drops()
        end = self._taken + len(self._entrance.waiting)
        until = perf_counter() + TURN_SECONDS
        while True:
            due = self._gaps[0][0] if self._gaps else end
            if due > self._taken:
                room = max_write - self._log.pending
                self._encode(due - self._taken, room, until)
            if self._taken < due or not self._gaps:
                break
            self._log.add_gap(self._gaps[0][1])
            self._gaps.popleft()

    @property
    def _taken(self) -> int:
        """Events taken from the entrance so far."""
        return self.invalid + self.broadcast

    def _encode(self, most: int, room: int, until: float) -> None:
        """Take so many events at most from the entrance, so many bytes of frames, for so long."""
        waiting = self._entrance.waiting
        events: list[Event] = []
        frames: list[bytes] = []
        try:
            for _ in range(most):
                if perf_counter() > until:
                    break
                try:
                    frame = event_frame(self._log.event_id(len(events) + 1), encode_event(waiting[0]))
                except Exception as error:
                    waiting.popleft()
                    self.invalid += 1
                    note = self._faults.note if isinstance(error, ValueError) else self._faults.note_own
                    note("an event was left out as invalid", error)
                    continue
                room -= len(frame)
                if room < 0:
                    break
                frames.append(frame)
                events.append(waiting.popleft())
        finally:
            self._add(events, frames)

    def _add(self, events: list[Event], frames: list[bytes]) -> None:
        """Add events to the log, where clients find them."""
        try:
            self._log.extend(Batch(events, frames))
        except Exception as error:
            self.invalid += len(events)
            self._faults.note_own("events were lost on their way into the log", error)
        else:
            self.broadcast += len(events)

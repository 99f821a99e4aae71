"""From the entrance to the log: each event is encoded once, and a gap stands where some were dropped.

Every event that is taken is counted: it is in the log, or it is invalid. No tasks.
"""

from collections import deque
from time import perf_counter

from ._batch import Batch
from ._entrance import Entrance
from ._event import Event
from ._junction import Epoch, Junction
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
        junction: Where a relay is joined, if there is one.
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
        # Looks at what waits: how many events are to be taken before those that came after it, and
        # when it was.
        self._looks: deque[tuple[int, float]] = deque([(0, 0.0)])
        self.junction: Junction | None = None

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

    def note_rest(self, now: float) -> None:
        """Note that there was nothing to take until now: what waits has just come, or begins a run."""
        self._looks.clear()
        self._looks.append((self._taken, now))

    def take(self, max_write: int, now: float) -> None:
        """Take events, until so many bytes are pending for the hindmost client or time is up.

        Args:
            max_write: So many bytes.
            now: The time, by the clock of the pipe's run.
        """
        self.note_drops()
        end = self._taken + len(self._entrance.waiting)
        if end > self._looks[-1][0]:
            self._looks.append((end, now))
        else:
            self._looks[-1] = end, now
        until = perf_counter() + TURN_SECONDS
        while True:
            due = self._gaps[0][0] if self._gaps else end
            if due > self._taken:
                room = max_write - self._log.pending
                self._encode(due - self._taken, room, until)
            if self._taken < due or not self._gaps:
                break
            self._tell_drops()
        if self.junction is not None:
            try:
                self._take_arrivals(self.junction, max_write, now, perf_counter() + TURN_SECONDS / 2)
            except Exception as error:
                self._faults.note_own("events of other workers were lost on their way into the log", error)
                self.junction.give_up()
                self._log.add_gap(0, None)

    def tell_drops(self) -> None:
        """Have the log tell at once of all that was dropped: there are clients that do not get what waits."""
        self.note_drops()
        while self._gaps:
            self._tell_drops()

    def _tell_drops(self) -> None:
        self._log.add_gap(self._gaps[0][1])
        _, dropped = self._gaps.popleft()
        if self.junction is not None:
            self.junction.drop(dropped)

    @property
    def has_drops(self) -> bool:
        """Whether events were dropped of which the log does not tell yet."""
        return bool(self._gaps) or self._entrance.dropped > self._drops_noted

    @property
    def has_arrivals(self) -> bool:
        """Whether events of other workers wait to be taken."""
        return self.junction is not None and bool(self.junction.arrivals)

    def _take_arrivals(self, junction: Junction, max_write: int, now: float, until: float) -> None:
        """Take what a relay brought, as far as there is room behind the pipe's own events."""
        trail = self._log.trail
        while junction.arrivals and perf_counter() < until:
            arrival = junction.arrivals[0]
            if isinstance(arrival, Epoch):
                trail.begin(arrival.name, arrival.floor, self._log.head.events)
                junction.arrivals.popleft()
                continue
            if arrival.dropped or arrival.lost != 0:
                self._log.add_gap(arrival.dropped, arrival.lost)
            if arrival.lost is None:
                trail.doubt()
            room = max_write - self._log.pending
            frames: list[bytes] = []
            for event_id, data in zip(self._log.relayed_ids(arrival.spot), arrival.data, strict=False):
                frame = event_frame(event_id, data)
                room -= len(frame)
                if room < 0:
                    break
                frames.append(frame)
            if frames:
                batch = Batch(arrival.events[: len(frames)], frames, [now] * len(frames))
                self._log.extend_relayed(batch, arrival.run, arrival.first, arrival.spot)
            junction.took(arrival, len(frames))
            if len(frames) < len(arrival.data):
                break
            if arrival.echoed:
                trail.echo(arrival.first, arrival.echoed, arrival.spot)
            trail.read_to(arrival.until)

    @property
    def _taken(self) -> int:
        """Events taken from the entrance so far."""
        return self.invalid + self.broadcast

    def _encode(self, most: int, room: int, until: float) -> None:
        """Take so many events at most from the entrance, so many bytes of frames, for so long."""
        waiting = self._entrance.waiting
        while len(self._looks) > 1 and self._looks[1][0] <= self._taken:
            self._looks.popleft()
        events: list[Event] = []
        frames: list[bytes] = []
        to_relay: list[bytes] = []
        try:
            for _ in range(most):
                if perf_counter() > until:
                    break
                try:
                    data = encode_event(waiting[0])
                    frame = event_frame(self._log.event_id(len(events) + 1), data)
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
                if self.junction is not None:
                    to_relay.append(data)
        finally:
            self._add(events, frames, to_relay)

    def _add(self, events: list[Event], frames: list[bytes], to_relay: list[bytes]) -> None:
        """Add events to the log, where clients find them."""
        try:
            self._log.extend(Batch(events, frames, [self._looks[0][1]] * len(events)))
        except Exception as error:
            self.invalid += len(events)
            self._faults.note_own("events were lost on their way into the log", error)
        else:
            self.broadcast += len(events)
            if self.junction is not None and to_relay:
                self.junction.offer(to_relay)

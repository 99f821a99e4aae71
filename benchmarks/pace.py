"""How many events are due: the clock of a server that emits at a given rate."""

import time

TICK = 0.005
"""Seconds between two looks at the clock: few enough that the emitter itself is cheap."""

CATCH_UP = 0.1
"""Seconds' worth of events that a late look makes up for at most.

What a server that is busy for longer than this could not even emit is not emitted. Without
it an overloaded server would make ever larger bursts, and measure them only."""


class Pace:
    """Spreads events evenly over a time that begins now.

    Args:
        rate: Events a second.
        seconds: How long to go on.

    Attributes:
        emitted: How many events were said to be due so far.
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self.emitted = 0
        self._rate = rate
        self._began = time.monotonic()
        self._seconds = seconds
        self._due = 0

    def due(self) -> int | None:
        """Return how many events to emit now, or None when the time is over."""
        elapsed = time.monotonic() - self._began
        if elapsed >= self._seconds:
            return None
        due = int(elapsed * self._rate)
        count = min(due - self._due, max(int(CATCH_UP * self._rate), 1))
        self._due = due
        self.emitted += count
        return count

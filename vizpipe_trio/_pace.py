"""When to hand out events, and in how large writes. No tasks, and no clock of its own.

A turn wakes some clients, then the host's other tasks have theirs. A round is as many turns as it
takes to serve every client. docs/performance.md says what each number here has brought.
"""

import math

from ._sse import MAX_BURST, MAX_WRITE

SHARE = 2 / 5
"""The share of the thread's time that turns take at most while events can still gather.
The rest is the host's."""

EASY_SHARE = 1 / 4
"""The share that they take while a round is over soon even so."""

EASY_ROUND = 1 / 15
"""Seconds. A round that is over by then looks as continuous as a shorter one: what it would
save in time is not worth what it costs the host."""

LONGEST_REST = 0.01
"""Seconds of rest after a turn at most: a host that is busy makes turns look expensive."""

BUSY_SECONDS = 0.1
"""How long there must have been more to write than small writes can carry before they grow. A
single burst is over by then."""


class Pace:
    """Finds the pace of one run of a pipe by itself. All times are by Trio's clock, in seconds.

    Attributes:
        max_write: What a write may carry, in bytes.
        round_ended: When the last round ended that brought events.
    """

    def __init__(self, flush_interval: float) -> None:
        self.max_write = MAX_WRITE
        self.round_ended = -math.inf
        self._flush_interval = flush_interval
        self._round_began = self._resume_at = self._busy_since = -math.inf

    def is_pressed(self, pending: int) -> bool:
        """Whether so many bytes fill more than half of the next write, so that there is no time to rest."""
        return pending > self.max_write / 2

    def turn_in(self, now: float) -> float:
        """Return in how many seconds the next turn may begin, if nothing is pressing."""
        return max(self._resume_at - now, 0.0)

    def events_in(self, now: float, hindmost_at: float) -> float:
        """Return in how many seconds the next turn with events may begin, if nothing is pressing.

        Args:
            now: The time.
            hindmost_at: When the client that is next was served last.
        """
        if self._is_new_round(hindmost_at):
            return max(self._resume_at, self.round_ended + self._flush_interval) - now
        return self._resume_at - now

    def begin_turn(self, now: float, hindmost_at: float, pending: int) -> None:
        """Note that a turn with events begins, and decide how large its round's writes may be."""
        if self._is_new_round(hindmost_at):
            self._round_began = now
            rested = now - self.round_ended > self._flush_interval + BUSY_SECONDS
            if rested or pending <= MAX_WRITE / 2:
                self._busy_since = now
            self.max_write = MAX_BURST if now - self._busy_since > BUSY_SECONDS else MAX_WRITE

    def end_turn(self, began: float, now: float, turns: float, *, brought_events: bool) -> None:
        """Note that a turn is over, of so many that it takes to serve every client."""
        if brought_events:
            self.round_ended = now  # unless there are more turns to it
        took = now - began
        rest = max(took / SHARE, min(took / EASY_SHARE, EASY_ROUND / turns)) - took
        self._resume_at = now + min(rest, LONGEST_REST)

    def _is_new_round(self, hindmost_at: float) -> bool:
        return hindmost_at >= self._round_began

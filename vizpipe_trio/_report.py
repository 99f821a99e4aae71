"""Log lines about faults in what the host hands us, at a bounded rate."""

import logging
from collections.abc import Callable
from contextlib import suppress


class FaultReport:
    """Collects faults by kind and logs them: the first at once, then in sums.

    `note` only remembers, so it may be called on the hot path and from any thread;
    `flush` does the writing and never raises, whatever handlers the logger has.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float], interval: float) -> None:
        self._logger = logger
        self._clock = clock
        self._interval = interval
        self._next_flush = float("-inf")
        self._noted: dict[str, tuple[int, Exception]] = {}

    def note(self, what: str, error: Exception) -> None:
        """Remember a fault; ``what`` completes "3 times: ..." in the log."""
        count, _ = self._noted.get(what, (0, error))
        self._noted[what] = (count + 1, error)

    def flush(self, *, force: bool = False) -> None:
        """Log what was noted, unless less than ``interval`` seconds have passed."""
        if not self._noted or (self._clock() < self._next_flush and not force):
            return
        self._next_flush = self._clock() + self._interval
        noted, self._noted = self._noted, {}
        for what, (count, error) in noted.items():
            with suppress(Exception):
                self._logger.warning("%d times: %s; the latest: %r", count, what, error)

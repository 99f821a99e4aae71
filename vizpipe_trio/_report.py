"""Log lines about faults in what the host hands us, at a bounded rate."""

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from threading import RLock


class FaultReport:
    """Collects faults by kind and logs them: the first at once, then in sums.

    `note` only remembers, so it may be called on the hot path and from any thread;
    `flush` does the writing and never raises, whatever handlers the logger has.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float], interval: float) -> None:
        self._logger = logger
        self._clock = clock
        self._interval = interval
        self._next_flush = -math.inf
        self._lock = RLock()
        self._noted: dict[str, tuple[int, str]] = {}

    def note(self, what: str, error: Exception) -> None:
        """Remember a fault; ``what`` completes "3 times: ..." in the log."""
        # As text: the error itself would keep alive what the emitting function had at hand.
        try:
            text = repr(error)
        except Exception:
            text = type(error).__name__
        with self._lock:
            count, _ = self._noted.get(what, (0, ""))
            self._noted[what] = (count + 1, text)

    def due_in(self) -> float:
        """Return in how many seconds there is something to flush."""
        return max(self._next_flush - self._clock(), 0.0) if self._noted else math.inf

    def flush(self) -> None:
        """Log what was noted, unless less than ``interval`` seconds have passed."""
        if self.due_in() == 0:
            self._next_flush = self._clock() + self._interval
            self._write()

    def close(self) -> None:
        """Log what was noted. The clock may be another one from here on."""
        self._next_flush = -math.inf
        self._write()

    def _write(self) -> None:
        with self._lock:
            noted, self._noted = self._noted, {}
        for what, (count, text) in noted.items():
            with suppress(Exception):
                self._logger.warning("%d times: %s; the latest: %s", count, what, text)

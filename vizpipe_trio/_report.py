"""Log lines about faults, the host's and our own, at a bounded rate."""

import logging
import math
import traceback
from collections.abc import Callable
from contextlib import suppress
from threading import RLock


class FaultReport:
    """Collects faults by kind and logs them: the first at once, then in sums.

    `note` only remembers, so it may be called on the hot path and from any thread;
    `flush` does the writing. Neither raises, whatever handlers the logger has.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float], interval: float) -> None:
        self._logger = logger
        self._clock = clock
        self._interval = interval
        self._next_flush = -math.inf
        self._lock = RLock()
        self._noted: dict[tuple[int, str], tuple[int, str]] = {}

    def note(self, what: str, error: Exception) -> None:
        """Remember a fault in what the host gave us; ``what`` completes "3 times: ..." in the log."""
        with suppress(Exception):
            self._remember(logging.WARNING, what, "the latest: " + _told_by(error))

    def note_own(self, what: str, error: Exception) -> None:
        """Remember a fault of this package: it is logged as an error, with the first one's traceback."""
        with suppress(Exception):
            # It costs far more than a fault may that comes with every event.
            first = (logging.ERROR, what) not in self._noted
            text = "the first:\n" + "".join(traceback.format_exception(error)) if first else None
            self._remember(logging.ERROR, what, text)

    def _remember(self, level: int, what: str, text: str | None) -> None:
        with self._lock:
            count, before = self._noted.get((level, what), (0, ""))
            self._noted[level, what] = (count + 1, text or before)

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
        for (level, what), (count, text) in noted.items():
            with suppress(Exception):
                self._logger.log(level, "%d times: %s; %s", count, what, text)


def _told_by(error: Exception) -> str:
    # As text: the error itself would keep alive what the emitting function had at hand.
    try:
        return repr(error)
    except Exception:
        return type(error).__name__

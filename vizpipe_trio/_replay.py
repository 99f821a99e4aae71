"""What a client that comes back is given: what it has missed for good, and what the log still keeps."""

from collections.abc import Iterable, Iterator

from ._batch import Batch, EventFilter, Missed
from ._client import missed_in
from ._log import Stretch
from ._report import FaultReport
from ._sse import MAX_WRITE

EVENTS_A_STEP = 256
"""Events that are put through the filter in one go: some hundred microseconds."""


def replay(
    lost: Missed | None, stretches: list[Stretch], wanted: EventFilter | None, faults: FaultReport
) -> Iterator[bytes]:
    """Return frames of an event stream, one write at a time; some may be empty.

    Each is put together when it is asked for, so that a long history does not hold the thread.

    Args:
        lost: What is no longer held.
        stretches: What is.
        wanted: The client's filter.
        faults: Told when it raises.
    """
    first: list[Missed] = []
    if lost is not None:
        first.append(lost if wanted is None else Missed("history", None))
    if lost is None and stretches and not stretches[0].batch:
        # Lost right behind the last event that it saw: it may have been told or not.
        first += missed_in(stretches.pop(0).gap, exact=False)
    return _joined(_payloads(first, stretches, wanted, faults))


def _payloads(
    first: Iterable[Missed], stretches: Iterable[Stretch], wanted: EventFilter | None, faults: FaultReport
) -> Iterator[bytes]:
    for missed in first:
        yield missed.payload()
        yield b""
    for batch, gap in stretches:
        for start in range(0, len(batch), EVENTS_A_STEP):
            if start:
                yield b""
            rest: Batch | None = batch.part(start, start + EVENTS_A_STEP).select(wanted, faults)
            while rest:
                part = rest.head(MAX_WRITE)
                yield part.payload()
                rest = rest.part(len(part))
        for missed in missed_in(gap, exact=wanted is None):
            yield missed.payload()


def _joined(payloads: Iterable[bytes]) -> Iterator[bytes]:
    """Join what fits one write; what is empty ends a write, so that none takes long to put together."""
    write: list[bytes] = []
    size = 0
    for payload in payloads:
        if not payload or size + len(payload) > MAX_WRITE:
            yield b"".join(write)
            write, size = [], 0
        write.append(payload)
        size += len(payload)
    yield b"".join(write)

"""Bytes on the wire: the event stream's frames. No I/O, no tasks.

The format is the event stream of the HTML standard, section 9.2.5 "Parsing an
event stream": fields end with a line feed, an empty line dispatches. JSON has no
raw line breaks, so a frame made here has exactly the lines that are written here.
That holds for clients too that take more for a line break than the standard does.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Literal

import msgspec

from ._event import Event

MAX_WRITE = 65_536
"""Bytes in one write at most. A client is noticed to be slow, and its connection shielded by
the server, one write at a time."""

MAX_BURST = 262_144
"""Bytes in one write at most while there is more to write than such writes can carry. A write
costs the server far more than the bytes in it do."""

MAX_EVENT = 61_440
"""Bytes of one event's JSON at most, so that every frame fits one write."""

MAX_LABELS = 1000
"""Labels of one event at most. A filter looks at each of them: as many as fit ``MAX_EVENT``, in all the
history that a viewer comes back for, would hold up the host for a tenth of a second."""

MAX_STAGES = MAX_EVENT // 32
"""Stages of one event at most: each has its names and braces."""

MAX_REASON = 300
"""Characters of what is said of an event that cannot be encoded: the reason may quote it."""

_UNICODE_LINE_BREAKS = (
    (b"\xe2\x80\xa8", rb"\u2028"),
    (b"\xe2\x80\xa9", rb"\u2029"),
    (b"\xc2\x85", rb"\u0085"),
)
"""What Python's ``str.splitlines`` breaks at, and with it some clients, and JSON leaves as it is."""

KEEP_ALIVE = b": keep-alive\n\n"

MissedReason = Literal["slow", "overload", "history", "relay"]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return the event's JSON: at most ``MAX_EVENT`` bytes, valid for the wire.

    What is returned has been read back by a strict decoder of `Event`, and is equal to
    what was given. That covers what encoding alone lets through: NaN and infinities
    (encoded as null), naive timestamps, an unknown ``op``, a ``str`` in place of a list,
    ``bytes`` (encoded as Base64), offsets from UTC with seconds (rounded).

    Raises:
        ValueError: The event cannot go on the wire; the message says why.
    """
    try:
        # Not isinstance(): a subclass can change what is encoded, and a proxy run its own code.
        if type(event) is not Event:
            raise TypeError(f"expected an Event, got {type(event).__name__}")  # noqa: TRY301 - its name may raise
        if len(event.labels) > MAX_LABELS:
            raise ValueError(f"it has {len(event.labels)} labels, more than {MAX_LABELS}")  # noqa: TRY301
        size = _least_size(event)
        if size > MAX_EVENT:  # encoding it would hold up the host
            raise ValueError(f"it is at least {size} bytes, more than {MAX_EVENT}")  # noqa: TRY301
        data = _encoder.encode(event)
        decoded = _decoder.decode(data)
        changed = None if event == decoded else _changed(event, decoded)  # the first in C, and nearly always
    except Exception as error:
        # Whatever a host put into a field, from a RecursionError to its own tzinfo.
        raise ValueError(f"the event cannot be encoded: {_told_by(error)}") from error
    if changed:
        raise ValueError(f"the event's {changed} would not come out as it went in")
    if len(data) > MAX_EVENT - 2 * (1 + MAX_STAGES):
        # An int in place of a float grows by ".0" where another worker writes it again: that has to fit.
        data = _encoder.encode(decoded)
    if not data.isascii():
        data = _escape_line_breaks(data)
    if len(data) > MAX_EVENT:
        raise ValueError(f"the event is {len(data)} bytes of JSON, more than {MAX_EVENT}")
    return data


def encode_read(events: Sequence[Event]) -> list[bytes]:
    """Return the JSON of events that a strict decoder has just read: the same as `encode_event`.

    That they come out as they went in needs no second look then, which is most of the work.

    Raises:
        ValueError: One of them cannot go on the wire.
    """
    # As lines, since that is one call for all of them; JSON has no raw line feed.
    data = _encoder.encode_lines(events)
    if not data.isascii():
        data = _escape_line_breaks(data)
    *encoded, _ = data.split(b"\n")
    if max(map(len, encoded), default=0) > MAX_EVENT:
        raise ValueError(f"one of the events is more than {MAX_EVENT} bytes of JSON")
    if any(len(event.labels) > MAX_LABELS for event in events):
        raise ValueError(f"one of the events has more than {MAX_LABELS} labels")
    return encoded


def _escape_line_breaks(data: bytes) -> bytes:
    for line_break, escaped in _UNICODE_LINE_BREAKS:
        data = data.replace(line_break, escaped)
    return data


def _least_size(event: Event) -> int:
    """Return a size that the event's JSON has at the least, from what others may have put into it."""
    size = 0
    for label in event.labels:
        # What else a host puts there, against its type, may hold anything.
        if not isinstance(label, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"one of its labels is no string but a {type(label).__name__}")  # noqa: TRY004
        size += len(label)
    stages = event.stages
    try:
        if stages:
            if len(stages) > MAX_STAGES:
                return MAX_EVENT + 1
            for stage in stages:  # quicker than sum(), for as few as there are
                size += len(stage.name)
        size += len(event.subject) + len(event.request_id) + len(event.source)
        return size + len(event.op) + len(event.status) + len(event.actor_type)
    except TypeError:
        return size  # something has no length: the decoder will say what is wrong with it


def _changed(event: Event, decoded: Event) -> str | None:
    """Return the first field that is not what it was, or None.

    Those that the decoder lets have one of a few values only are not looked at again.
    """
    labels, stages = event.labels, event.stages
    same = {
        "subject": event.subject == decoded.subject,
        "request_id": event.request_id == decoded.request_id,
        "source": event.source == decoded.source,
        "result_count": event.result_count == decoded.result_count,
        "total_ms": event.total_ms == decoded.total_ms,
        "labels": not labels or list(labels) == decoded.labels,
        "stages": not stages or list(stages) == decoded.stages,
        # Not ==, which calls no two times equal if one is in an hour that the clock passes twice (PEP 495).
        "timestamp": event.timestamp.tzinfo is UTC or not decoded.timestamp - event.timestamp,
    }
    return None if all(same.values()) else next(name for name in same if not same[name])


def _told_by(error: Exception) -> str:
    try:
        reason = str(error)
    except Exception:
        return type(error).__name__
    return reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}…"


def marshal_sse(event: Event) -> bytes:
    r"""Return the event as one frame of an event stream, ``data: {json}\n\n``.

    Does not block. Any thread.

    Raises:
        ValueError: The event cannot go on the wire: a field has the wrong type or
            value (a naive timestamp, NaN, a lone surrogate, a label that is no
            string, an integer beyond 2**53), it has more than 1,000 labels, or its JSON
            is longer than 61,440 bytes.
    """
    return b"data: %b\n\n" % encode_event(event)


def event_frame(event_id: bytes, data: bytes) -> bytes:
    """Return an event's JSON as a frame with an ID that a client can resume from."""
    return b"id: %b\ndata: %b\n\n" % (event_id, data)


def missed_frame(reason: MissedReason, count: int | None) -> bytes:
    """Return the frame that tells a client of a loss; ``None``: it cannot be known."""
    return b'event: missed\ndata: {"missed":%b,"reason":"%b"}\n\n' % (
        b"null" if count is None else b"%d" % count,
        reason.encode("ascii"),
    )


def preamble(retry_ms: int) -> bytes:
    """Return a stream's first bytes; they reach the client before any event does.

    Args:
        retry_ms: What a client waits before it reconnects, in milliseconds.
    """
    return b"retry: %d\n: vizpipe\n\n" % retry_ms

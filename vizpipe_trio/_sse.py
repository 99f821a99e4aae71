"""Bytes on the wire: the event stream's frames. No I/O, no tasks.

The format is the event stream of the HTML standard, section 9.2.5 "Parsing an
event stream": fields end with a line feed, an empty line dispatches. JSON has no
raw line breaks, so a frame made here has exactly the lines that are written here.
"""

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

KEEP_ALIVE = b": keep-alive\n\n"

MissedReason = Literal["slow", "overload", "history", "relay"]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return the event's JSON: at most ``MAX_EVENT`` bytes, valid for the wire.

    What is returned has been read back by a strict decoder of `Event`. That one
    check covers what encoding alone lets through: NaN and infinities (encoded as
    null), naive timestamps, an unknown ``op``, a ``str`` in place of a list.

    Raises:
        ValueError: The event cannot go on the wire; the message says why.
    """
    try:
        # Not isinstance(): a subclass can change what is encoded, and a proxy run its own code.
        if type(event) is not Event:
            raise TypeError(f"expected an Event, got {type(event).__name__}")  # noqa: TRY301 - its name may raise
        data = _encoder.encode(event)
        _decoder.decode(data)
    except Exception as error:
        # Whatever a host put into a field, from a RecursionError to its own tzinfo.
        raise ValueError(f"the event cannot be encoded: {_told_by(error)}") from error
    if len(data) > MAX_EVENT:
        raise ValueError(f"the event is {len(data)} bytes of JSON, more than {MAX_EVENT}")
    return data


def _told_by(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def marshal_sse(event: Event) -> bytes:
    r"""Return the event as one frame of an event stream, ``data: {json}\n\n``.

    Does not block. Any thread.

    Raises:
        ValueError: The event cannot go on the wire: a field has the wrong type or
            value (a naive timestamp, NaN, a lone surrogate, a label that is no
            string), or its JSON is longer than 61,440 bytes.
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

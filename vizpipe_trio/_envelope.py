"""What crosses the network between workers: one message, with a version. No tasks, no I/O.

A message is an entry of a stream, and so has fields:

    v  the version of what follows; who does not know it ignores the message
    r  the run part of the sender's IDs
    s  the number of the first event among the sender's own, or of the next one to come
    d  how many events were dropped at the sender's entrance so far
    n  how many events there are
    e  the events, a JSON array; left out if there are none
    h  1 when the sender has just connected: who sees it says where it stands itself

Since s and d count from the sender's start, who gets a message knows what of those before
it has not come, and a message that comes twice does no harm.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from ._event import Event
from ._sse import encode_read

VERSION = b"1"

MAX_EVENTS = 256
"""Events in one message at most: to check them takes about a millisecond."""

MAX_PAYLOAD = 131_072
"""Bytes of events in one message at most, more than one event of any size."""

_RUN = re.compile(rb"[0-9a-f]{8}")
_NUMBER = re.compile(rb"[0-9]{1,15}")

_decoder = msgspec.json.Decoder(list[Event])


class UnknownVersionError(ValueError):
    """A message of a version that this one does not know."""


class Envelope(msgspec.Struct, frozen=True):
    """One message.

    Attributes:
        run: The run part of the sender's IDs.
        first: The number of the first event among the sender's own, or of the next to come.
        dropped: Events dropped at the sender's entrance so far.
        count: How many events there are.
        hello: Whether the sender has just connected.
        data: The JSON of each event.
        events: The events. Like their JSON, only there for who gets the message of another.
    """

    run: bytes
    first: int
    dropped: int
    count: int
    hello: bool = False
    data: Sequence[bytes] = ()
    events: Sequence[Event] = ()

    def encode(self) -> dict[str, bytes]:
        """Return the message's fields."""
        fields = {"v": VERSION, "r": self.run, "s": b"%d" % self.first, "d": b"%d" % self.dropped}
        fields["n"] = b"%d" % self.count
        if self.data:
            fields["e"] = b"[%b]" % b",".join(self.data)
        if self.hello:
            fields["h"] = b"1"
        return fields


def decode_envelope(fields: Mapping[bytes, bytes], own_run: bytes) -> Envelope:
    """Return the message that fields are.

    Its events are as valid as those of this worker's own, and their JSON is written anew: so
    nothing that somebody else wrote reaches a viewer's stream as it is.

    Args:
        fields: The fields.
        own_run: Of a message that comes from here the events are not looked at.

    Raises:
        UnknownVersionError: It says that it is of another version.
        ValueError: It is not a message at all, or too large.
    """
    if (version := fields.get(b"v")) != VERSION:
        if version is not None and _NUMBER.fullmatch(version) and b"r" in fields:
            raise UnknownVersionError(f"a message of version {version.decode()}")
        raise ValueError("not a message of ours")
    run = _checked(_RUN, fields, b"r")
    envelope = Envelope(
        run=run,
        first=_number(fields, b"s"),
        dropped=_number(fields, b"d"),
        count=_number(fields, b"n"),
        hello=b"h" in fields,
    )
    if run == own_run or not envelope.count:
        return envelope
    payload = fields.get(b"e", b"")
    if envelope.count > MAX_EVENTS or len(payload) > MAX_PAYLOAD + 2:
        raise ValueError(f"{envelope.count} events of {len(payload)} bytes are too many")
    try:
        events = _decoder.decode(payload)
    except Exception as error:  # also a RecursionError, of a value that is nested deeply
        raise ValueError(f"the events cannot be decoded: {error}") from error
    if len(events) != envelope.count:
        raise ValueError(f"{len(events)} events, and not {envelope.count}")
    return msgspec.structs.replace(envelope, data=encode_read(events), events=events)


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int:
    return int(_checked(_NUMBER, fields, name))


def _checked(pattern: re.Pattern[bytes], fields: Mapping[bytes, bytes], name: bytes) -> bytes:
    value = fields.get(name, b"")
    if not pattern.fullmatch(value):
        raise ValueError(f"the field {name.decode()} is {value[:99]!r}")
    return value

"""A strict reader of event streams: it refuses what a browser would quietly pass over.

After the HTML standard, sections 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an
event stream". A browser ignores what it does not know, so a server's mistake shows up as an
event that never came. Here it is an error that says where.
"""

import re
from typing import NamedTuple

_LINE_END = re.compile("\r\n|\n|\r")


class Message(NamedTuple):
    """One event as a browser would dispatch it.

    Attributes:
        type: ``"message"``, unless the stream said otherwise.
        data: Its data.
        last_event_id: The ID that a client would resume from, having seen it.
    """

    type: str
    data: str
    last_event_id: str


def check_stream(data: bytes) -> list[Message]:
    """Return the events of a whole stream, or say where it breaks the standard.

    Args:
        data: The bytes of the response's body, from the first to the last.

    Raises:
        AssertionError: A browser would read it otherwise than it was meant: it is no UTF-8;
            it ends in the middle of an event; a field is none of ``data``, ``event``, ``id``
            and ``retry``; an ID has a NULL in it; ``retry`` is no number; or an event has no
            data, and would never be dispatched.
    """
    lines = _lines_of(data)
    messages: list[Message] = []
    last_event_id, event_type, parts = "", "", list[str]()
    for number, line in enumerate(lines, 1):
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            _check_field(number, name, value)
            if name == "data":
                parts.append(value)
            elif name == "event":
                event_type = value
            elif name == "id":
                last_event_id = value
        elif parts:
            messages.append(Message(event_type or "message", "\n".join(parts), last_event_id))
            event_type, parts = "", []
        elif event_type:
            raise AssertionError(f"line {number}: an event of type {event_type!r} without data is never seen")
    return messages


def _lines_of(data: bytes) -> list[str]:
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise AssertionError(f"the stream is not UTF-8: {error}") from error
    *lines, rest = _LINE_END.split(text)
    if rest or (lines and lines[-1]):
        raise AssertionError(f"the stream ends in the middle of an event: {rest or lines[-1]!r}")
    return lines


def _check_field(number: int, name: str, value: str) -> None:
    if name not in {"data", "event", "id", "retry"}:
        raise AssertionError(f"line {number}: there is no field {name!r}")
    if name == "id" and "\0" in value:
        raise AssertionError(f"line {number}: an ID with a NULL in it is ignored")
    if name == "retry" and not (value.isascii() and value.isdigit()):
        raise AssertionError(f"line {number}: retry is to be a number of milliseconds, not {value!r}")

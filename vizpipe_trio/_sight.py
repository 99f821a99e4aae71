"""What an ID says of a client that may go on at any worker.

Workers that share a stream on a server (see ``redis.py``) each have a log of their own, in
an order of their own, since a worker's own events do not wait for the server. So an ID says
three things, and any worker can go on from it:

    <run>-<number>.<own>.<epoch>.<ms>-<n>.<offset>

- ``<run>-<number>``: the place in the log of the worker that gave it out, for that worker;
- ``<own>``: so many of that worker's own events are before it;
- the rest: of the others, all events are before it that the shared stream has up to there.
  ``<ms>-<n>`` is the stream's own ID of a message, in hexadecimal digits, and ``<offset>`` so
  many events in it. The epoch is another one when the stream has begun anew.

That is exact, since each worker's events come in order, and its length does not grow with the
number of workers. A client that changes to a worker which is behind has seen more than that
worker's IDs say: until it has caught up they go on, after a ``~``, with what that was.

No tasks, no I/O.
"""

import re
from typing import NamedTuple

NO_EPOCH = b"0"

MAX_BEFORE = 8
"""Workers in an ID at most besides the one that gives it out: those where the client was last. So an ID
stays below 512 characters. One that has as many need not be all that the client saw."""


class Spot(NamedTuple):
    """A place in the shared stream: a message's ID, and so many of its events."""

    ms: int
    n: int
    offset: int


START = Spot(0, 0, 0)


class Sight(NamedTuple):
    """What a client saw at one worker, as an ID says it."""

    run: bytes
    own: int
    epoch: bytes
    spot: Spot


Seen = tuple[Sight, ...]
"""What a client saw elsewhere: at the worker where it was last, and before. What is in any of
them it has seen."""


_SIGHT = r"([0-9a-f]{8})(?:-[0-9]{1,18})?\.([0-9]{1,18})\.([0-9a-f]{1,16})\.([0-9a-f]{1,16})-([0-9a-f]{1,16})\.([0-9]{1,9})"
_sight = re.compile(_SIGHT, re.ASCII)
_id = re.compile(rf"{_SIGHT}(?:~{_SIGHT}){{0,{MAX_BEFORE}}}", re.ASCII)


def parse_seen(event_id: str) -> Seen:
    """Return what a client saw that was given this ID by a worker; nothing if it is no such ID."""
    if not _id.fullmatch(event_id):
        return ()
    return tuple(
        Sight(run.encode(), int(own), epoch.encode(), Spot(int(ms, 16), int(n, 16), int(offset)))
        for run, own, epoch, ms, n, offset in _sight.findall(event_id)
    )


def seen_in(frame: bytes) -> Seen:
    """Return what a frame's ID says."""
    return parse_seen(frame.partition(b"\n")[0].removeprefix(b"id: ").decode())


def add_seen(frame: bytes, seen: Seen) -> bytes:
    """Return a frame whose ID says also what a client saw elsewhere that has not come by here."""
    first, end, rest = frame.partition(b"\n")
    return b"".join([first, *map(_written, seen[:MAX_BEFORE]), end, rest])


def _written(sight: Sight) -> bytes:
    return b"~%b.%d.%b.%x-%x.%d" % (sight.run, sight.own, sight.epoch, *sight.spot)

"""The event: one request's way through a pipeline.

An event is a plain value. Making one checks nothing, because it is made on the
host's hot path; what cannot go on the wire is found, counted and left out when
the dispatcher encodes it (see ``encode_event`` in ``_sse.py``).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

MAX_INTEGER = 2**53 - 1
"""As far from zero as an integer may be: a browser, whose numbers are floats, would change larger ones."""

Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


def _now() -> datetime:
    return datetime.now(UTC)


class StageInfo(msgspec.Struct, frozen=True, gc=False):  # it holds scalars only: no cycles
    """What one stage of the pipeline did for a request.

    Attributes:
        stage: The stage's place in the pipeline, counted from 1.
        name: The stage's name, such as ``"cache"``.
        ms: The time the stage took, in milliseconds.
        hit: Whether this stage answered the request.
    """

    stage: Integer
    name: str
    ms: float = 0.0
    hit: bool = False


class Event(msgspec.Struct, frozen=True, rename={"timestamp": "ts"}):
    """One request, as it went through the pipeline. Immutable.

    Every field has a default. A value of the wrong type or kind (a naive
    timestamp, an ``op`` that is none of the two, NaN, a lone surrogate, a label
    that is no string, an integer beyond 2**53) and an event of more than 60 KiB
    or 1,000 labels are not refused here: the pipe counts such an event as
    *invalid* when it encodes it, and :func:`marshal_sse` raises ``ValueError``. An event that is
    encoded comes out of a client's parser equal to what went in.

    ``labels`` and ``stages`` are kept as they are given: a list that is changed after the event was
    emitted changes what is sent.

    Attributes:
        timestamp: When the request was made, as an aware datetime. The current
            UTC time if left out. On the wire it is ``ts``, in RFC 3339.
        request_id: The request's identity in the host's own logs.
        source: The part of the system that reports, such as ``"search"``.
        op: What was asked for: ``"WRITE"`` or ``"QUERY"``.
        subject: What it was about: the query, or the name of what was written.
        actor_type: Who asked: ``"user"``, ``"agent"`` or ``"system"``.
        status: What policy said: ``"ALLOWED"``, ``"FILTERED"`` or ``"DENIED"``.
        labels: Labels of the request, on the wire always a list.
        result_count: How many results were returned.
        total_ms: The time the whole request took, in milliseconds.
        stages: The stages it went through, in order, or ``None`` for a WRITE.
    """

    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(default_factory=_now)
    request_id: str = ""
    source: str = ""
    op: Literal["WRITE", "QUERY"] = "QUERY"
    subject: str = ""
    actor_type: Literal["user", "agent", "system"] = "user"
    status: Literal["ALLOWED", "FILTERED", "DENIED"] = "ALLOWED"
    labels: Sequence[str] = ()
    result_count: Integer = 0
    total_ms: float = 0.0
    stages: Sequence[StageInfo] | None = None

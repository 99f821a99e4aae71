"""The events that all servers send: some 550 bytes of JSON, six stages, no two alike.

A set of plain dictionaries is drawn once, from a fixed seed, so that every server sends
the same. What differs from event to event is put in as it is emitted: the time, and a
request ID that tells the load client the event's number and when it was emitted.
"""

import random
import time
from typing import Any

import msgspec

COUNT = 256
MARK = "~" * 16
"""Ends each request ID. A run of a byte that stands nowhere else is what the load client can
count fastest: it searches for it with steps of 17 bytes."""

GAP_MARK = b"v"
"""Stands in what tells of a gap, ``event: missed``, and in no event: to look for a single byte
is far quicker than for a word."""

_STAGES = ("policy", "cache", "text", "dense", "graph", "merge")
_SOURCES = ("search", "memory", "gateway")
_WORDS = (
    "nursery", "cancel scope", "memory channel", "checkpoint", "token", "outcome", "lambda", "decorator",
    "generator", "iterator", "protocol", "typing", "dataclass", "descriptor", "pathlib", "logging",
)  # fmt: skip


def make_templates() -> list[dict[str, Any]]:
    """Return the events' fields, all but ``ts`` and ``request_id``."""
    source = random.Random(20260101)
    templates = [_template(source) for _ in range(COUNT)]
    assert GAP_MARK not in msgspec.json.encode(templates)  # noqa: S101 - else it marks nothing
    return templates


def _template(source: random.Random) -> dict[str, Any]:
    answered_by = source.randrange(1, 6)
    stages: list[dict[str, Any]] = [
        {
            "stage": number,
            "name": name,
            "ms": round(source.lognormvariate(0, 1), 2),
            "hit": number - 1 == answered_by,
        }
        for number, name in enumerate(_STAGES, 1)
    ]
    return {
        "source": source.choice(_SOURCES),
        "op": "QUERY",
        "subject": source.choice(_WORDS),
        "actor_type": source.choice(("user", "agent", "system")),
        "status": source.choices(("ALLOWED", "FILTERED", "DENIED"), (90, 8, 2))[0],
        "labels": [source.choice(("eu", "beta", "internal", "batch", "mobile"))],
        "result_count": source.randrange(50),
        "total_ms": round(sum(stage["ms"] for stage in stages), 2),
        "stages": stages,
    }


def request_id(number: int) -> str:
    """Return the ID of an event that is emitted now: its number from 0, and the time.

    The clock is CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share.
    """
    return f"{number:09d}-{time.monotonic_ns():017d}{MARK}"


def make_batches(size: int) -> list[bytes]:
    """Return as many different batches as there are templates, each of so many events.

    For the limits below us, which send what was encoded beforehand. They are different so
    that no cache is flattered.
    """
    frames = [
        b"id: 7c1e9fa2-%d\ndata: %b\n\n"
        % (
            number,
            msgspec.json.encode(
                {"ts": "2026-01-01T00:00:00.000000Z", "request_id": request_id(number), **template}
            ),
        )
        for number, template in enumerate(make_templates())
    ]
    return [
        b"".join(frames[(first + index) % COUNT] for index in range(size)) for first in range(0, COUNT, 8)
    ]

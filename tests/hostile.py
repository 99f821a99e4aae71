"""What the tests of hostile input share: events that anyone could make up, and a browser."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, timedelta, timezone
from typing import Any

from browsing import OPTIONS, PATIENCE_MS, require_chromium
from hypothesis import strategies as st
from playwright.sync_api import BrowserContext, expect, sync_playwright

from vizpipe_trio import Event, StageInfo, marshal_sse

TEXTS = [
    "data: forged", "\n\nevent: missed\ndata: {}\n\n", "\r\rid: 7c1e9f-9\r\r", "\nretry: 0\n", ": comment\n",
    "\u2028id: 9\u2029", "\x85data: x\x85\x85", "\ufeff", "\x00", "\x1b[2J", "\u202e", "\x7f", "\ufffe\uffff",
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "javascript:alert(3)", "{{7*7}}",
    '"}\n\ndata: {"', "\\u0000\\n\\", "\U0001f469\u200d\U0001f4bb", "e\u0301", "__proto__",
]  # fmt: skip
"""Pieces that mean something to somebody on the way from an event to a page."""

text = st.lists(st.sampled_from(TEXTS) | st.text(max_size=20), max_size=4).map("".join)
long_text = st.integers(1, 62_000).map("x".__mul__)
milliseconds = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**53)
count = st.integers(-(2**53) + 1, 2**53 - 1)
stage = st.builds(StageInfo, stage=count, name=text, ms=milliseconds, hit=st.booleans())
offset = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
odd_offset = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
moment = st.datetimes(timezones=st.just(UTC) | offset)
fields: dict[str, st.SearchStrategy[Any]] = {
    "timestamp": moment,
    "request_id": text,
    "source": text,
    "op": st.sampled_from(["WRITE", "QUERY"]),
    "subject": text | long_text,
    "actor_type": st.sampled_from(["user", "agent", "system"]),
    "status": st.sampled_from(["ALLOWED", "FILTERED", "DENIED"]),
    "labels": st.lists(text, max_size=4) | st.lists(text, max_size=4).map(tuple),
    "result_count": count,
    "total_ms": milliseconds,
    "stages": st.none() | st.lists(stage, max_size=4) | st.lists(stage, max_size=2).map(tuple),
}
events = st.builds(Event, **fields)
"""Events as the types allow them; a few are too large."""

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=9) | st.uuids()
    | st.text(st.characters(), max_size=9) | st.datetimes(timezones=st.none() | odd_offset) | st.decimals() | st.just(object()) | stage,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
wild_events = st.builds(Event, **{name: usual | anything for name, usual in fields.items()})
"""Events with whatever in their fields, lone surrogates and NaN among it."""


def as_json(event: Event) -> dict[str, Any]:
    """Return what a page should get for an event: written down once more, not by our encoder."""
    return {
        "ts": event.timestamp.isoformat().replace("+00:00", "Z"),
        "request_id": event.request_id,
        "source": event.source,
        "op": event.op,
        "subject": event.subject,
        "actor_type": event.actor_type,
        "status": event.status,
        "labels": list(event.labels),
        "result_count": event.result_count,
        "total_ms": event.total_ms,
        "stages": None if event.stages is None else [
            {"stage": stage.stage, "name": stage.name, "ms": stage.ms, "hit": stage.hit}
            for stage in event.stages
        ],
    }  # fmt: skip


def is_accepted(event: Event) -> bool:
    with suppress(ValueError):
        return bool(marshal_sse(event))
    return False


@contextmanager
def open_chromium(*arguments: str) -> Generator[BrowserContext]:
    """Open a headless Chromium. Blocks: for a worker thread."""
    require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*OPTIONS, *arguments]
        )
        expect.set_options(timeout=PATIENCE_MS)
        try:
            yield browser.new_context()
        finally:
            browser.close()

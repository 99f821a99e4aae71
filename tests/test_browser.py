"""What a page that is not ours makes of the stream, in a headless Chromium."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from browsing import HOSTILE, Chromium
from playwright.sync_api import Page
from quart_trio import QuartTrio
from support import EVENTS, make_app, serve

from vizpipe_trio import Event, Pipe, StageInfo

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

# It knows nothing of this package.
PLAIN_PAGE = """<!doctype html>
<script>
  const got = [];
  const source = new EventSource("/api/viz/events");
  source.onmessage = (message) => got.push(JSON.parse(message.data));
</script>
"""


def add_plain_page(app: QuartTrio) -> None:
    @app.get("/plain")
    async def plain() -> str:
        await trio.lowlevel.checkpoint()
        return PLAIN_PAGE


async def test_page_that_knows_only_onmessage_and_json_gets_the_events_unchanged(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe)
    add_plain_page(app)

    def script(page: Page) -> None:
        page.goto(url + "/plain")
        browse.wait_for_clients(pipe, 1)
        stages = [StageInfo(1, "cache", 0.25), StageInfo(2, "vectors", 1.5, hit=True)]
        pipe.emit(
            Event(NEW_YEAR, "r1", "gate", "QUERY", HOSTILE, "agent", "FILTERED", ["a"], 3, 1.75, stages)
        )
        pipe.emit(Event(NEW_YEAR, "r2", op="WRITE"))
        page.wait_for_function("got.length === 2")
        assert page.evaluate("got") == [
            {
                "ts": "2026-01-01T00:00:00Z",
                "request_id": "r1",
                "source": "gate",
                "op": "QUERY",
                "subject": HOSTILE,
                "actor_type": "agent",
                "status": "FILTERED",
                "labels": ["a"],
                "result_count": 3,
                "total_ms": 1.75,
                "stages": [
                    {"stage": 1, "name": "cache", "ms": 0.25, "hit": False},
                    {"stage": 2, "name": "vectors", "ms": 1.5, "hit": True},
                ],
            },
            {
                "ts": "2026-01-01T00:00:00Z",
                "request_id": "r2",
                "source": "",
                "op": "WRITE",
                "subject": "",
                "actor_type": "user",
                "status": "ALLOWED",
                "labels": [],
                "result_count": 0,
                "total_ms": 0,
                "stages": None,
            },
        ]

    async with serve(app) as url:
        await browse(script, quiet=False)


def make_interruptible(app: QuartTrio, *, properly: bool) -> Callable[[], None]:
    """Return what ends the streams of an app, with or without the end of the body."""
    answer = app.asgi_app
    streams: list[trio.CancelScope] = []

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        with trio.CancelScope() as stream:
            if scope.get("path") == EVENTS:
                streams.append(stream)
            await answer(scope, receive, send)
        if stream.cancelled_caught and properly:
            await send({"type": "http.response.body", "body": b""})

    def interrupt() -> None:
        for stream in streams:
            stream.cancel()

    app.asgi_app = asgi_app  # type: ignore[method-assign]
    return interrupt


@pytest.mark.parametrize("properly", [True, False], ids=["ended", "cut"])
async def test_page_whose_stream_ends_comes_back_and_gets_each_event_once(
    browse: Chromium, properly: bool
) -> None:
    pipe = Pipe()
    app = make_app(pipe)
    add_plain_page(app)
    interrupt = make_interruptible(app, properly=properly)

    def script(page: Page) -> None:
        page.goto(url + "/plain")
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(request_id="r1"))
        pipe.emit(Event(request_id="r2"))
        page.wait_for_function("got.length === 2")
        browse.in_trio(interrupt)
        browse.wait_for_clients(pipe, 0)
        pipe.emit(Event(request_id="r3"))
        pipe.emit(Event(request_id="r4"))
        page.wait_for_function("got.length === 4")
        pipe.emit(Event(request_id="r5"))
        page.wait_for_function("got.length === 5")
        assert page.evaluate("got.map((event) => event.request_id)") == ["r1", "r2", "r3", "r4", "r5"]

    async with serve(app) as url:
        await browse(script, quiet=False)

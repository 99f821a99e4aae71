"""What a browser makes of the stream and of the dashboard: a headless Chromium."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from playwright.sync_api import ConsoleMessage, Dialog, Page, expect, sync_playwright
from quart_trio import QuartTrio
from support import EVENTS, make_app, serve, until

from vizpipe_trio import Event, Pipe, StageInfo

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

# A page that knows nothing of this package.
PLAIN_PAGE = """<!doctype html>
<script>
  const got = [];
  const source = new EventSource("/api/viz/events");
  source.onmessage = (message) => got.push(JSON.parse(message.data));
</script>
"""

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script></td>\"'&amp;\u2028\u2029\u202etxt.exe"

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]

Script = Callable[[Page], None]
Browse = Callable[[Script], list[str]]


@pytest.fixture
def browse() -> Browse:
    """Run a script on a new page; return what the page complained of.

    That is what it wrote to its console as an error or a warning, what it threw, and the
    dialogs that it opened. Blocks: for a worker thread.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("the browser tests need chromium on the PATH")
        pytest.skip("there is no chromium on the PATH")

    def browse(script: Script) -> list[str]:
        complaints: list[str] = []

        def on_console(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                complaints.append(message.text)

        def on_dialog(dialog: Dialog) -> None:
            complaints.append(dialog.message)
            dialog.dismiss()

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
            page = browser.new_page()
            page.on("console", on_console)
            page.on("dialog", on_dialog)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            try:
                script(page)
            finally:
                browser.close()
        return complaints

    return browse


def open_page(page: Page, address: str, pipe: Pipe) -> None:
    """Open a page and wait until its stream gets events."""
    page.goto(address)
    wait_for_clients(pipe, 1)


def wait_for_clients(pipe: Pipe, count: int) -> None:
    trio.from_thread.run(until, lambda: pipe.statistics().clients == count)


def add_plain_page(app: QuartTrio) -> None:
    @app.get("/plain")
    async def plain() -> str:
        await trio.lowlevel.checkpoint()
        return PLAIN_PAGE


# A page that is not ours


async def test_page_that_knows_only_onmessage_and_json_gets_the_events_unchanged(browse: Browse) -> None:
    pipe = Pipe()
    app = make_app(pipe)
    add_plain_page(app)

    def script(page: Page) -> None:
        open_page(page, url + "/plain", pipe)
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

    async with serve(app, seconds=30) as url:
        await trio.to_thread.run_sync(browse, script)


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
    browse: Browse, properly: bool
) -> None:
    pipe = Pipe()
    app = make_app(pipe)
    add_plain_page(app)
    interrupt = make_interruptible(app, properly=properly)

    def script(page: Page) -> None:
        open_page(page, url + "/plain", pipe)
        pipe.emit(Event(request_id="r1"))
        pipe.emit(Event(request_id="r2"))
        page.wait_for_function("got.length === 2")
        trio.from_thread.run_sync(interrupt)
        wait_for_clients(pipe, 0)
        pipe.emit(Event(request_id="r3"))
        pipe.emit(Event(request_id="r4"))
        page.wait_for_function("got.length === 4")
        pipe.emit(Event(request_id="r5"))
        page.wait_for_function("got.length === 5")
        assert page.evaluate("got.map((event) => event.request_id)") == ["r1", "r2", "r3", "r4", "r5"]

    async with serve(app, seconds=30) as url:
        await trio.to_thread.run_sync(browse, script)


# The dashboard


async def test_dashboard_shows_events_live_the_newest_first(browse: Browse) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        open_page(page, url + "/viz/?token=right", pipe)
        expect(page.get_by_role("status")).to_have_text("Live")
        stages = [StageInfo(1, "cache", 0.25), StageInfo(2, "vectors", 1.5, hit=True)]
        pipe.emit(Event(subject="cheese", status="FILTERED", total_ms=1.75, stages=stages))
        rows = page.locator("#events tr")
        expect(rows).to_have_count(1)
        assert rows.first.locator("td").all_text_contents()[1:] == [
            "FILTERED", "QUERY", "cheese", "vectors", "1.75",
        ]  # fmt: skip
        pipe.emit(Event(request_id="r2", op="WRITE"))
        expect(rows).to_have_count(2)
        assert rows.first.locator("td").all_text_contents()[1:] == ["ALLOWED", "WRITE", "r2", "–", "0.00"]
        expect(page.locator("#seen")).to_have_text("2")
        expect(page.locator("#missed")).to_have_text("0")

    async with serve(make_app(pipe, token="right"), seconds=30) as url:
        assert await trio.to_thread.run_sync(browse, script) == []


async def test_dashboard_takes_the_token_out_of_the_address_and_keeps_it_for_its_tab(browse: Browse) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        open_page(page, url + "/viz/?token=right&op=WRITE", pipe)
        assert page.url == url + "/viz/?op=WRITE"
        page.goto("about:blank")
        wait_for_clients(pipe, 0)
        open_page(page, url + "/viz/?op=WRITE", pipe)
        pipe.emit(Event(subject="a query"))
        pipe.emit(Event(subject="a write", op="WRITE"))
        expect(page.locator("#events tr")).to_have_count(1)
        expect(page.locator("#events")).to_contain_text("a write")

    async with serve(make_app(pipe, token="right"), seconds=30) as url:
        assert await trio.to_thread.run_sync(browse, script) == []


async def test_dashboard_shows_gaps_where_they_are_and_how_wide(browse: Browse) -> None:
    pipe = Pipe(capacity=2)

    def burst() -> None:
        for _ in range(5):
            pipe.emit(Event())

    def script(page: Page) -> None:
        open_page(page, url + "/viz/?token=right", pipe)
        trio.from_thread.run_sync(burst)
        rows = page.locator("#events tr")
        expect(rows).to_have_count(3)
        pipe.emit(Event())
        expect(rows).to_have_count(4)
        expect(rows.nth(1)).to_have_class("gap")
        expect(rows.nth(1)).to_contain_text("3 events are missing here")
        expect(page.locator("#seen")).to_have_text("3")
        expect(page.locator("#missed")).to_have_text("3")

    async with serve(make_app(pipe, token="right"), seconds=30) as url:
        assert await trio.to_thread.run_sync(browse, script) == []


async def test_dashboard_shows_hostile_text_as_text(browse: Browse) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        open_page(page, url + "/viz/?token=right", pipe)
        nodes = page.locator("#events *")
        pipe.emit(Event(subject="harmless", source="a", stages=[StageInfo(1, "b", hit=True)]))
        expect(page.locator("#events tr")).to_have_count(1)
        harmless = nodes.count()
        pipe.emit(Event(subject=HOSTILE, source=HOSTILE, stages=[StageInfo(1, HOSTILE, hit=True)]))
        expect(page.locator("#events tr")).to_have_count(2)
        texts = page.locator("#events tr").first.locator("td").all_text_contents()
        assert texts.count(HOSTILE) == 2  # the subject, and the stage that answered
        assert nodes.count() == 2 * harmless
        assert page.locator("img, #events script").count() == 0

    async with serve(make_app(pipe, token="right"), seconds=30) as url:
        assert await trio.to_thread.run_sync(browse, script) == []


@pytest.mark.parametrize("query", ["", "?token=wrong"])
async def test_dashboard_without_the_right_token_says_that_it_is_refused(browse: Browse, query: str) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + "/viz/" + query)
        expect(page.get_by_role("status")).to_contain_text("Refused")

    async with serve(make_app(pipe, token="right"), seconds=30) as url:
        complaints = await trio.to_thread.run_sync(browse, script)
    assert [complaint for complaint in complaints if "401" not in complaint] == []

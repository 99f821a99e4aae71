"""What a thousand events a second cost the browser: a short look, with wide bounds. benchmarks/browser.py has the figures."""

import trio
from browsing import Chromium
from playwright.sync_api import Page, expect
from support import make_app, serve

from benchmarks.browser import OBSERVE, emit_evenly, look_at
from vizpipe_trio import Pipe

SECONDS = 5.0


async def test_a_thousand_events_a_second_leave_the_page_at_ease(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.add_init_script(OBSERVE)
        page.goto(url + "/viz/?token=right")
        expect(page.locator("#words")).to_have_text("Live")
        figures = look_at(page, SECONDS, looks=2)
        assert figures["events a second in the page"] > 500
        assert figures["main thread busy"] < 0.9
        assert figures["longest task, ms"] < 1000
        heap, nodes = figures["heap, MB"], figures["DOM nodes"]
        assert heap[-1] - heap[0] < 5
        assert max(nodes) - min(nodes) < 500  # rows are used again
        assert page.locator("#events tr").count() <= 100

    async with serve(make_app(pipe, token="right"), seconds=60) as url, trio.open_nursery() as nursery:
        nursery.start_soon(emit_evenly, pipe, 1000)
        await browse(script)
        nursery.cancel_scope.cancel()

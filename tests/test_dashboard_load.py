"""What a thousand events a second cost the browser: a short look, with wide bounds. benchmarks/browser.py has the figures."""

import time
from threading import Event, Thread
from typing import Self

import trio
from browsing import Chromium
from playwright.sync_api import Page, expect
from support import make_app, serve

from benchmarks.browser import OBSERVE, emit_evenly, look_at
from vizpipe_trio import Pipe

SECONDS = 5.0


class Stalls:
    """How long nothing ran on this machine at a time while in the block: as seen by a thread that only sleeps."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self._over = Event()
        self._thread = Thread(target=self._look)

    def _look(self) -> None:
        seen = time.monotonic()
        while not self._over.wait(0.005):
            now = time.monotonic()
            self.longest_ms = max(self.longest_ms, (now - seen) * 1000)
            seen = now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


async def test_a_thousand_events_a_second_leave_the_page_at_ease(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.add_init_script(OBSERVE)
        page.goto(url + "/viz/?token=right")
        expect(page.locator("#words")).to_have_text("Live")
        with Stalls() as stalls:
            figures = look_at(page, SECONDS, looks=2)
        assert figures["events a second in the page"] > 500
        assert figures["main thread busy"] < 0.9
        assert figures["longest task, ms"] < 1000 + stalls.longest_ms
        heap, nodes = figures["heap, MB"], figures["DOM nodes"]
        assert heap[-1] - heap[0] < 5
        assert max(nodes) - min(nodes) < 500  # rows are used again
        assert page.locator("#events tr").count() <= 100

    async with serve(make_app(pipe, token="right")) as url, trio.open_nursery() as nursery:
        nursery.start_soon(emit_evenly, pipe, 1000)
        await browse(script)
        nursery.cancel_scope.cancel()

"""Take the pictures in ``docs/images``: ``python docs/screenshots.py``, about two minutes.

Needs what the tests need: the system's Chromium and Playwright. The pictures look best with the
typeface Inter installed (Debian: ``fonts-inter``), which the page prefers where it finds it.
"""

import math
import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import trio
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from examples.docsearch import corpus  # noqa: E402 - found by the line above
from examples.docsearch.app import create_app  # noqa: E402
from examples.docsearch.pipeline import Pipeline  # noqa: E402
from examples.docsearch.stages import STAGES  # noqa: E402
from examples.docsearch.traffic import requests  # noqa: E402
from vizpipe_trio import Event, Pipe, StageInfo  # noqa: E402
from vizpipe_trio.hypercorn import StreamConfig, serve  # noqa: E402

IMAGES = ROOT / "docs" / "images"
FILL_SECONDS = 32.0  # until a window of 30 seconds is full
RATE = 45  # events a second, give or take
CAPACITY = 40  # so that a burst overflows it
BURST = 65

WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}


async def send_events(pipe: Pipe) -> None:
    """Answer the example's traffic without the way over HTTP, in waves."""
    documents = corpus.load()
    pipeline = Pipeline()
    await pipeline.load(documents)
    rng = random.Random(7)
    for request in requests(documents, rng):
        if request.method == "GET":
            actor = request.headers["X-Actor-Type"]
            outcome = await pipeline.search(unquote(request.path.partition("=")[2]), actor)  # type: ignore[arg-type]
            pipe.emit(outcome.event)
        wave = 1 + 0.45 * math.sin(trio.current_time() / 4) + 0.2 * math.sin(trio.current_time() * 1.7)
        await trio.sleep(rng.expovariate(RATE * wave))


def overflow(pipe: Pipe, event_count: int) -> None:
    """Emit more at once than the entrance holds."""
    stages = [
        StageInfo(place, name, 0.2 * place, hit=name == "lookup") for place, name in enumerate(STAGES, 1)
    ]
    for _ in range(event_count):
        pipe.emit(Event(source="docsearch", subject="a burst", total_ms=4.4, stages=stages))


def open_page(browser: Browser, address: str, viewport: dict[str, int], scheme: str) -> Page:
    """Open a page of its own size and colours."""
    page = browser.new_page(viewport=viewport, color_scheme=scheme, device_scale_factor=1)  # type: ignore[arg-type]
    page.goto(address)
    return page


def take_pictures(address: str, burst: Callable[[], None]) -> None:
    """Open the pages, let them fill, and save what they show. Blocks: for a worker thread."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        light = open_page(browser, address, WIDE, "light")
        dark = open_page(browser, address, WIDE, "dark")
        narrow = open_page(browser, address, NARROW, "light")
        light.wait_for_timeout(FILL_SECONDS * 1000)
        light.screenshot(path=IMAGES / "light.png")
        narrow.screenshot(path=IMAGES / "narrow.png")
        dark.get_by_role("button", name="Pause").click()
        dark.locator("#events tr:not(.gap)").nth(3).click()
        dark.mouse.move(0, 0)
        dark.screenshot(path=IMAGES / "dark.png")
        light.mouse.move(0, 0)
        trio.from_thread.run_sync(burst)
        light.wait_for_timeout(250)
        light.locator(".gap").wait_for()
        light.get_by_role("button", name="Pause").click()
        light.screenshot(path=IMAGES / "gap.png")
        browser.close()


async def main() -> None:
    """Run the example's app with its own dashboard, and look at it."""
    pipe = Pipe(capacity=CAPACITY)
    app = create_app(pipe, token="sesame")  # noqa: S106 - it guards a minute on loopback
    config = StreamConfig()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "WARNING"
    config.graceful_timeout = 0.5
    end = trio.Event()
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve, app, config, pipe, shutdown_trigger=end.wait))
        nursery.start_soon(send_events, pipe)
        address = f"{addresses[0]}/viz/?token=sesame"
        await trio.to_thread.run_sync(take_pictures, address, partial(overflow, pipe, BURST))
        end.set()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)

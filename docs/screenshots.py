"""Take the pictures in ``docs/images``: ``python docs/screenshots.py``, about two minutes.

With ``tutorial`` as an argument it takes only the tutorial's, of the app that the tutorial shows.

Needs what the tests need: the system's Chromium and Playwright. The pictures look best with the
typeface Inter installed (Debian: ``fonts-inter``), which the page prefers where it finds it.
"""

import json
import math
import random
import re
import shutil
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import trio
from hypercorn.config import Config
from msgspec.structs import replace
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from examples.docsearch import corpus  # noqa: E402 - found by the line above
from examples.docsearch.answer import Outcome  # noqa: E402
from examples.docsearch.app import create_app  # noqa: E402
from examples.docsearch.pipeline import Pipeline  # noqa: E402
from examples.docsearch.policy import ActorType  # noqa: E402
from examples.docsearch.traffic import Request, requests  # noqa: E402
from vizpipe_trio import Event, Pipe  # noqa: E402
from vizpipe_trio.hypercorn import serve  # noqa: E402

IMAGES = ROOT / "docs" / "images"
FILL_SECONDS = 32.0  # until a window of 30 seconds is full
RATE = 45  # events a second, give or take
CAPACITY = 40  # so that a burst overflows it
BURST = 65

TUTORIAL_SEARCHES = 400  # as many as the tutorial tells its reader to make
TUTORIAL_PAUSE = 0.03  # between two of them, in seconds: what a shell's loop takes
TUTORIAL_SIZE = {"width": 1200, "height": 860}

WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}


class Feed:
    """Answers the example's traffic without the way over HTTP, in waves."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._last: deque[Event] = deque(maxlen=BURST)
        self._running = trio.CancelScope()

    async def run(self) -> None:
        """Emit events until there is a burst."""
        documents = corpus.load()
        pipeline = Pipeline(self._pipe)
        await pipeline.load(documents)
        rng = random.Random(7)
        with self._running:
            for request in requests(documents, rng):
                outcome = await answer(pipeline, request)
                self._last.append(outcome.event)
                wave = (
                    1 + 0.45 * math.sin(trio.current_time() / 4) + 0.2 * math.sin(trio.current_time() * 1.7)
                )
                await trio.sleep(rng.expovariate(RATE * wave))

    async def burst(self) -> None:
        """Emit more at once than the pipe's entrance holds, then a few more, and no others."""
        self._running.cancel()
        await trio.sleep(0.5)
        for event in self._last:
            self._pipe.emit(replace(event, timestamp=datetime.now(UTC)))
        await trio.sleep(0.1)
        for event in list(self._last)[:5]:
            await trio.sleep(0.01)
            self._pipe.emit(replace(event, timestamp=datetime.now(UTC)))


async def answer(pipeline: Pipeline, request: Request) -> Outcome:
    """Return what the example makes of a request."""
    actor: ActorType = request.headers["X-Actor-Type"]  # type: ignore[assignment]
    if request.body:
        note = json.loads(request.body)
        return await pipeline.add_note(corpus.Document(note["title"], note["text"], ("note",)), actor)
    return await pipeline.search(unquote(request.path.partition("=")[2]), actor)


def open_page(browser: Browser, address: str, viewport: dict[str, int], scheme: str) -> Page:
    """Open a page of its own size and colours."""
    page = browser.new_page(viewport=viewport, color_scheme=scheme, device_scale_factor=1)  # type: ignore[arg-type]
    page.goto(address)
    return page


def take_pictures(address: str, burst: Callable[[], Awaitable[None]]) -> None:
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
        trio.from_thread.run(burst)
        light.locator(".gap").wait_for()
        light.wait_for_timeout(1200)
        light.screenshot(path=IMAGES / "gap.png")
        browser.close()


def tutorial() -> dict[str, Any]:
    """Return what the tutorial's first snippet, its app, defines."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    if snippet is None:
        raise LookupError("the tutorial shows no app")
    defined: dict[str, Any] = {"__name__": "app"}
    exec(snippet[1], defined)  # noqa: S102 - our own text
    return defined


async def main_of_tutorial() -> None:
    """Serve the tutorial's app, do what it says, and look at the dashboard as its reader does."""
    defined = tutorial()
    app, pipe, config, end = defined["app"], defined["pipe"], Config(), trio.Event()
    config.bind, config.loglevel = ["127.0.0.1:0"], "WARNING"
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve, app, config, pipe, shutdown_trigger=end.wait))
        picture = partial(take_tutorial, f"{addresses[0]}/viz/", lambda: search_for_topics(app))
        await trio.to_thread.run_sync(picture)
        end.set()


async def search_for_topics(app: Any) -> None:
    """Make the tutorial's searches."""
    client = app.test_client()
    for topic in ("loops", "loops", *(f"topic-{i * i % 61}" for i in range(TUTORIAL_SEARCHES))):
        await client.get(f"/search/{topic}")
        await trio.sleep(TUTORIAL_PAUSE)


def take_tutorial(address: str, search: Callable[[], Awaitable[None]]) -> None:
    """Open the page, have it filled, and save what it shows. Blocks: for a worker thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = open_page(browser, address, TUTORIAL_SIZE, "light")
        page.get_by_text("Live").first.wait_for()
        trio.from_thread.run(search)
        page.wait_for_timeout(1000)
        page.screenshot(path=IMAGES / "tutorial.png")
        browser.close()


async def main() -> None:
    """Run the example's app with its own dashboard, and look at it."""
    pipe = Pipe(capacity=CAPACITY)
    feed = Feed(pipe)
    app = create_app(pipe, token="sesame")  # noqa: S106 - it guards a minute on loopback
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "WARNING"
    config.graceful_timeout = 0.5
    end = trio.Event()
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(serve, app, config, pipe, shutdown_trigger=end.wait))
        nursery.start_soon(feed.run)
        address = f"{addresses[0]}/viz/?token=sesame"
        await trio.to_thread.run_sync(take_pictures, address, feed.burst)
        end.set()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    await main_of_tutorial()


if __name__ == "__main__":
    trio.run(main_of_tutorial if sys.argv[1:] == ["tutorial"] else main)

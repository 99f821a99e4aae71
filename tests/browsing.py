"""What the browser tests share: one headless Chromium, and what is said to it often."""

import os
import shutil
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import trio
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    expect,
    sync_playwright,
)
from quart_trio import QuartTrio
from support import until

from vizpipe_trio import Event, Pipe, StageInfo

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
PATIENCE_MS = 30_000
"""How long a page may take for anything, on a machine that is busy with other things."""

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script></td>\"'&amp;\u2028\u2029\u202etxt.exe"

WITHOUT_WORKERS = "delete window.SharedWorker"
"""Has a tab be the hub, where it is said before the page's own scripts."""

T = TypeVar("T")
Script = Callable[[Page], None]


class Chromium:
    """A headless Chromium in a thread of its own, since Playwright's calls block.

    A script gets a page in a fresh profile. It fails if any page of that profile writes an error
    or a warning to its console, throws, or opens a dialog.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._playwright = self._thread.submit(lambda: sync_playwright().start()).result()
        self._browser = self._thread.submit(self._launch).result()
        self._token: trio.lowlevel.TrioToken | None = None

    def _launch(self) -> Browser:
        return self._playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)

    def close(self) -> None:
        """End the browser."""
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()

    async def __call__(self, script: Script, *, quiet: bool = True, **profile: Any) -> None:
        """Run a script to its end; ``profile`` is what Playwright's ``new_context`` takes."""
        self._token = trio.lowlevel.current_trio_token()
        done = self._thread.submit(_run, self._browser, script, quiet, profile)
        await trio.to_thread.run_sync(done.result)

    def in_trio(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in Trio's thread, from a script."""
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    def run_in_trio(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Await an async function in Trio's thread, from a script."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait in Trio's thread until a condition holds, from a script, and no longer than the test may take."""

        async def wait() -> None:
            with trio.fail_after(30):
                await until(condition)

        self.run_in_trio(wait)

    def wait_for_clients(self, pipe: Pipe, count: int) -> None:
        """Wait until so many streams are open, from a script."""
        self.wait_until(lambda: pipe.statistics().clients == count)


class StandStill:
    """Has pages of an app stand still: their scripts wait for an answer that the server holds back."""

    def __init__(self, browse: Chromium, app: QuartTrio) -> None:
        self._browse = browse
        self._release = trio.Event()

        @app.get("/held")
        async def held() -> str:
            await self._release.wait()
            return ""

    @contextmanager
    def __call__(self, page: Page) -> Generator[None]:
        """Until the end of the block, also when it fails: a page that stands still can't be closed."""
        page.evaluate("""setTimeout(() => {
            const request = new XMLHttpRequest();
            request.open("GET", "/held", false);
            request.send();
        })""")
        try:
            yield
        finally:
            self._browse.in_trio(self._release.set)


def _run(browser: Browser, script: Script, quiet: bool, profile: dict[str, Any]) -> None:
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def on_dialog(dialog: Dialog) -> None:
        complaints.append(dialog.message)
        dialog.dismiss()

    def listen(page: Page) -> None:
        page.on("console", on_console)
        page.on("dialog", on_dialog)
        page.on("pageerror", lambda error: complaints.append(str(error)))

    context = browser.new_context(**profile)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    context.on("page", listen)
    try:
        script(context.new_page())
    finally:
        context.close()
    assert complaints == [] or not quiet, complaints


def require_chromium() -> None:
    """Fail, or skip outside CI, where there is no browser."""
    if shutil.which("chromium") is None:
        if os.environ.get("CI"):
            pytest.fail("the browser tests need chromium on the PATH")
        pytest.skip("there is no chromium on the PATH")


def rows(page: Page) -> Locator:
    """Return the rows of the table, gaps included."""
    return page.locator("#events tr")


def number(page: Page, selector: str) -> int:
    """Return a number that the page shows."""
    return int(page.locator(selector).inner_text().replace(",", ""))


def new_tab(context: BrowserContext, address: str) -> Page:
    """Open a page in a new tab and wait until it is live."""
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#words")).to_have_text("Live")
    return page


def note_runs(page: Page) -> None:
    """Have a page note the dots that run through its pipeline: each is gone in less than a second."""
    page.evaluate("""() => {
        window.runs = [];
        new MutationObserver((changes) => {
            for (const { addedNodes } of changes) for (const dot of addedNodes) runs.push(dot.className);
        }).observe(document.querySelector(".viz-runs"), { childList: true });
    }""")


def wait_for_run(page: Page, kind: str = "viz-run") -> None:
    """Wait until a dot has begun to run since `note_runs`."""
    page.wait_for_function("(kind) => runs.some((run) => run.includes(kind))", arg=kind)


def staged(*names: str, hit: str = "", ms: float = 1.0, **fields: Any) -> Event:
    """Return an event with stages of the same length, one of which answered."""
    stages = [StageInfo(place, name, ms, name == hit) for place, name in enumerate(names, 1)]
    return Event(stages=stages, total_ms=ms * len(names), **fields)


def emit_at_once(pipe: Pipe, count: int) -> None:
    """Emit so many events, with nothing between them when it is called in Trio's thread."""
    for _ in range(count):
        pipe.emit(Event())

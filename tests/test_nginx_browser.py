"""A real browser behind a real nginx: HTTP/2 gives it more streams than HTTP/1.1 would."""

from pathlib import Path

import trio
from playwright.sync_api import sync_playwright
from support import make_app, until
from support_http2 import Certificates, served
from support_nginx import documented_site, find_command, nginx

from vizpipe_trio import Event, Pipe

PAGE = """<!doctype html>
<link rel="icon" href="data:,">
<script>
  const got = Array(10).fill(0);
  got.forEach((_, tab) => {
    new EventSource("api/viz/events?token=right").onmessage = () => got[tab] += 1;
  });
</script>
"""


def watch_ten_times(chromium: str, url: str, pipe: Pipe) -> str:
    """Open ten streams in one page, which all get an event; return the protocol that they used."""
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        try:
            page = browser.new_page(ignore_https_errors=True)
            page.goto(f"{url}/pipeline/plain")
            trio.from_thread.run(until, lambda: pipe.statistics().clients == 10)
            pipe.emit(Event())
            page.wait_for_function("got.every((count) => count === 1)")
            return str(page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol"))
        finally:
            browser.close()


async def test_browser_has_ten_streams_open_at_once(tmp_path: Path) -> None:
    chromium = find_command("chromium")
    pipe = Pipe(flush_interval=0)
    app = make_app(pipe, token="right")
    certificates = Certificates.issue(tmp_path)

    @app.get("/plain")
    async def plain() -> str:
        await trio.lowlevel.checkpoint()
        return PAGE

    async with (
        served(app, pipe) as server,
        nginx(documented_site(), server.url, certificates, tmp_path) as url,
    ):
        assert await trio.to_thread.run_sync(watch_ten_times, chromium, url, pipe) == "h2"

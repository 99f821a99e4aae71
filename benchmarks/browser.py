"""``python -m benchmarks.browser [--seconds 60] [--rate 1000]``: what the dashboard costs the browser.

Headless Chromium looks at the dashboard of a server in this process. The figures are the browser's own: its
``Performance.getMetrics`` for the main thread's time and for the heap after a garbage collection, its observer
of long tasks, its trace for what took how long.
"""

import argparse
import json
import shutil
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import trio
from hypercorn.config import Config
from playwright.sync_api import Page, sync_playwright
from quart_trio import QuartTrio

from vizpipe_trio import Event, Pipe
from vizpipe_trio.hypercorn import serve
from vizpipe_trio.quart import viz_blueprint

from .events import make_templates

TICK = 0.005  # seconds between two lots of events
SETTLE_SECONDS = 2.0  # until the page is loaded and live
LOOKS = 6  # at the heap
OBSERVE = """
    window.longTasks = [];
    new PerformanceObserver((list) => {
        for (const { startTime, duration } of list.getEntries()) longTasks.push([startTime, duration]);
    }).observe({ type: "longtask" });
"""


def make_events() -> list[Event]:
    """Return events to be sent over and over."""
    decoder = msgspec.json.Decoder(Event)
    return [
        decoder.decode(
            msgspec.json.encode({"ts": "2026-01-01T00:00:00Z", "request_id": f"r{number}", **fields})
        )
        for number, fields in enumerate(make_templates())
    ]


async def emit_evenly(pipe: Pipe, rate: float) -> None:
    """Emit so many events a second, until cancelled."""
    events = make_events()
    began, emitted = trio.current_time(), 0
    while True:
        await trio.sleep(TICK)
        due = int((trio.current_time() - began) * rate)
        for number in range(emitted, due):
            pipe.emit(events[number % len(events)])
        emitted = due


def look_at(page: Page, seconds: float, looks: int = LOOKS) -> dict[str, Any]:
    """Return what a page that is live costs over so many seconds. Blocks."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    ours: list[tuple[float, float]] = []  # when the page did what we asked of it

    def metrics() -> dict[str, float]:
        begin = page.evaluate("performance.now()")
        session.send("HeapProfiler.collectGarbage")
        ours.append((begin, page.evaluate("performance.now()")))
        return {
            metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]
        }

    page.wait_for_timeout(SETTLE_SECONDS * 1000)
    page.evaluate("longTasks.length = 0")
    seen_before, began = _seen(page), page.evaluate("performance.now()")
    after, taken, busy = metrics(), [], 0.0
    for _ in range(looks):
        taken.append(before := after)
        page.wait_for_timeout(seconds * 1000 / looks)
        after = metrics()
        busy += after["TaskDuration"] - before["TaskDuration"]
    taken.append(after)
    elapsed = (page.evaluate("performance.now()") - began) / 1000
    tasks = [
        duration
        for start, duration in page.evaluate("longTasks")
        if not any(start < end and start + duration > begin for begin, end in ours)
    ]
    return {
        "seconds": round(elapsed, 1),
        "events a second in the page": round((_seen(page) - seen_before) / elapsed),
        "main thread busy": round(busy / seconds, 3),
        "longest task, ms": round(max(tasks, default=0)),
        "tasks over 50 ms": len(tasks),
        "tasks over 100 ms": sum(duration > 100 for duration in tasks),  # noqa: PLR2004 - it says so
        "heap, MB": [round(look["JSHeapUsedSize"] / 1e6, 1) for look in taken],
        "DOM nodes": [int(look["Nodes"]) for look in taken],
    }


def _seen(page: Page) -> int:
    return int(page.locator("#seen").inner_text().replace(",", ""))


def trace_of(page: Page, seconds: float) -> dict[str, Any]:
    """Return what the main thread's time went into, from the browser's trace."""
    browser = page.context.browser
    assert browser is not None  # noqa: S101 - it launched the page
    browser.start_tracing(page=page, categories=["devtools.timeline", "toplevel"])
    page.wait_for_timeout(seconds * 1000)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    spent: Counter[str] = Counter()
    longest = 0
    for event in events:
        if event.get("ph") == "X" and names.get((event["pid"], event["tid"])) == "CrRendererMain":
            spent[event["name"]] += event.get("dur", 0)
            longest = max(longest, event.get("tdur", 0))
    figures = {name: round(spent[name] / 1000 / seconds, 1) for name, _ in spent.most_common(8)}
    return {"longest task, CPU ms": round(longest / 1000), "ms a second": figures}


def browse(address: str, seconds: float) -> dict[str, Any]:
    """Open the dashboard and measure it. Blocks."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.add_init_script(OBSERVE)
        page.goto(address)
        figures = look_at(page, seconds)
        figures["traced"] = trace_of(page, 10)
        browser.close()
    return figures


async def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description="What the page costs.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    arguments = parser.parse_args()
    pipe = Pipe()
    app = QuartTrio("browser")
    app.register_blueprint(viz_blueprint(pipe, token=None))
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.loglevel = "WARNING"
    end = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        [address] = await nursery.start(partial(serve, app, config, pipe, shutdown_trigger=end.wait))
        nursery.start_soon(emit_evenly, pipe, arguments.rate)
        figures = await trio.to_thread.run_sync(browse, f"{address}/viz/", arguments.seconds)
        ledger = pipe.statistics()
        figures["lost"] = ledger.dropped + ledger.missed
        print(json.dumps(figures, indent=2))
        end.set()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)

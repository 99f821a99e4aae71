"""A server is killed and started again while a browser and our own client watch."""

import json
from typing import Any

import trio
from browsing import Chromium
from playwright.sync_api import Page
from support import reserved_port, until
from test_shutdown import COMMAND, serving

from vizpipe_trio import Event
from vizpipe_trio.client import Missed, open_events

# A page that knows nothing of this package.
WATCH = """() => {
    window.got = [];
    const source = new EventSource("/api/viz/events");
    source.onmessage = (message) => got.push([message.lastEventId, JSON.parse(message.data).request_id]);
    source.addEventListener("missed", (message) => got.push(["missed", message.data]));
}"""


def check_lives(got: list[tuple[str, str]]) -> None:
    """Check what was received of two lives: (run-number or "missed", what else is said)."""
    [first_run, second_run] = dict.fromkeys(one.partition("-")[0] for one, _ in got if one != "missed")
    assert [json.loads(told) for one, told in got if one == "missed"] == [
        {"missed": None, "reason": "history"}
    ]
    place = [one for one, _ in got].index("missed")
    for run, part in ((first_run, got[:place]), (second_run, got[place + 1 :])):
        numbers = [int(one.removeprefix(f"{run}-")) for one, _ in part]
        assert numbers == list(
            range(numbers[0], numbers[0] + len(numbers))
        )  # each once, in order, none left out


async def test_who_watches_a_server_that_is_killed_comes_back_and_is_told_that_events_may_be_missing(
    browse: Chromium,
) -> None:
    ours: list[Event | Missed] = []
    seen: Any = []
    first_has_events, second_lives = trio.Event(), trio.Event()

    async def watch(url: str) -> None:
        async with open_events(url) as events:
            async for event in events:
                ours.append(event)  # noqa: PERF401 - looked at meanwhile

    def has_both_lives() -> bool:
        return any(isinstance(one, Missed) for one in ours) and isinstance(ours[-1], Event)

    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        page.evaluate(WATCH)
        page.wait_for_function("got.length > 10")
        browse.in_trio(first_has_events.set)
        browse.run_in_trio(second_lives.wait)
        page.wait_for_function("got.some(([id]) => id === 'missed') && got.at(-1)[0] !== 'missed'")
        seen.extend(page.evaluate("got"))

    with reserved_port() as port, trio.fail_after(100):
        arguments = [word.replace("127.0.0.1:0", f"127.0.0.1:{port}") for word in COMMAND]
        async with trio.open_nursery() as nursery:
            async with serving(arguments, 3) as served:
                url = served.url
                nursery.start_soon(watch, url)
                browser_done = trio.Event()

                async def look() -> None:
                    await browse(script, quiet=False, bypass_csp=True)  # it says that the connection was lost
                    browser_done.set()

                nursery.start_soon(look)
                await first_has_events.wait()
                await until(lambda: len(ours) > 10)
                served.kill()
            async with serving(arguments, 3) as served:
                second_lives.set()
                await browser_done.wait()
                await until(has_both_lives)
                nursery.cancel_scope.cancel()
                served.kill()

    check_lives([(one[0], one[1]) for one in seen])
    told = [one for one in ours if isinstance(one, Missed)]
    assert [(one.reason, one.count) for one in told] == [("history", None)]
    place = ours.index(told[0])
    for part in (ours[:place], ours[place + 1 :]):
        numbers = [int(one.request_id.removeprefix("r")) for one in part if isinstance(one, Event)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

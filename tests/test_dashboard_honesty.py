"""What the dashboard says of losses, and of its connection."""

import re
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any
from urllib.parse import quote

import pytest
import trio
from browsing import Chromium, StandStill, emit_at_once, new_tab, number, rows
from playwright.sync_api import Page, expect
from quart import Response, request
from quart_trio import QuartTrio
from support import EVENTS, STATS, make_app, reserved_port, serve, until

from vizpipe_trio import Event, Pipe
from vizpipe_trio.redis import RedisRelay

VIZ = "/viz/?token=right"
APP = Callable[[Any, Any, Any], Awaitable[None]]


def wrap(app: QuartTrio, around: Callable[[APP, Any, Any, Any], Awaitable[None]]) -> None:
    """Have an app's event streams served through a function."""
    answer = app.asgi_app

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        if str(scope.get("path")).endswith(EVENTS):
            await around(answer, scope, receive, send)
        else:
            await answer(scope, receive, send)

    app.asgi_app = asgi_app  # type: ignore[method-assign]


def cut_short(app: QuartTrio) -> Callable[[], None]:
    """Return what cuts the streams that an app has open; their pages wait for long before they come back."""
    streams: list[trio.CancelScope] = []

    async def around(answer: APP, scope: Any, receive: Any, send: Any) -> None:
        async def send_patiently(message: Any) -> None:
            if "body" in message:
                message["body"] = message["body"].replace(b"retry: 2000", b"retry: 99999")
            await send(message)

        with trio.CancelScope() as stream:
            streams.append(stream)
            await answer(scope, receive, send_patiently)

    def cut() -> None:
        for stream in streams:
            stream.cancel()

    wrap(app, around)
    return cut


AS_MANY_AS_CAME = """() => {
    const rate = Number(document.querySelector("[data-chart=rates] .headline").innerText);
    return 80 < rate && rate < 120;
}"""


async def emit_on(pipe: Pipe) -> None:
    """Emit a hundred events a second, each made then, until cancelled."""
    began, emitted = trio.current_time(), 0
    while True:
        await trio.sleep(0.01)
        due = int((trio.current_time() - began) * 100)
        emit_at_once(pipe, due - emitted)
        emitted = due


async def test_a_gap_is_shown_where_the_events_are_missing_and_in_the_total(browse: Chromium) -> None:
    pipe = Pipe(capacity=2)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        browse.in_trio(emit_at_once, pipe, 5)
        expect(rows(page)).to_have_count(3)
        pipe.emit(Event())
        expect(rows(page)).to_have_count(4)
        expect(rows(page).nth(1)).to_have_text("3 events missing here: the pipe’s entrance was full")
        assert (number(page, "#seen"), number(page, "#missed-all")) == (3, 3)
        assert number(page, "[data-reason=overload]") == 3
        assert number(page, "[data-reason=slow]") == 0
        ledger = pipe.statistics()
        assert (ledger.emitted, ledger.dropped, ledger.delivered) == (6, 3, 3)

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_an_unknown_number_is_told_as_unknown_and_as_at_least(browse: Chromium) -> None:
    pipe = Pipe(capacity=2)

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&op=QUERY")
        browse.wait_for_clients(pipe, 1)
        browse.in_trio(emit_at_once, pipe, 5)  # how many of the three a filter would let through is unknown
        expect(page.locator("#missed-all")).to_have_text("?")
        expect(page.locator("[data-reason=overload]")).to_have_text("?")
        expect(rows(page).first).to_contain_text("An unknown number of events missing here")
        page.get_by_role("checkbox", name="QUERY").uncheck()
        expect(page.locator("#missed-all")).to_have_text("0")  # another question, another answer

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_rates_are_lower_bounds_and_the_band_is_marked_while_a_loss_is_in_the_window(
    browse: Chromium,
) -> None:
    pipe = Pipe(capacity=2)
    red = """() => {
        const canvas = document.querySelector("[data-chart=rates] canvas");
        const { width, height } = canvas;
        const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(0, 0, width, height);
        let marked = 0;
        for (let at = 0; at < data.length; at += 4) marked += data[at] === 143 && data[at + 1] === 29;
        return marked;
    }"""

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        headline = page.locator("[data-chart=rates] .headline")
        expect(headline).to_have_text("0")
        assert page.evaluate(red) == 0
        browse.in_trio(emit_at_once, pipe, 5)
        expect(headline).to_have_text(re.compile("^≥ "))
        expect(page.locator("[data-value=QUERY]")).to_have_text(re.compile("^≥ "))
        expect(page.locator("[data-chart=latencies] .at")).to_have_text("some are missing")
        page.wait_for_function(red)  # once the slot is full, and drawn

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script, color_scheme="light")


async def test_the_rate_of_a_moment_in_which_events_are_missing_is_a_lower_bound(browse: Chromium) -> None:
    pipe = Pipe(capacity=2)

    def script(page: Page) -> None:
        page.clock.install()
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        page.clock.run_for(31_000)  # so that it was there all the time that is looked at
        browse.in_trio(emit_at_once, pipe, 5)
        expect(page.locator("#missed-all")).to_have_text("3")
        page.clock.run_for(4000)
        figure = page.locator("[data-chart=rates]")
        query = figure.locator("[data-value=QUERY]")
        page.get_by_role("button", name="Pause").dispatch_event("click")
        expect(figure.locator(".now")).to_contain_text("at")
        figure.focus()
        seen: list[str] = []
        for _ in range(40):  # the clock goes on while a busy machine looks
            page.keyboard.press("ArrowLeft")
            seen.append(query.inner_text())
            said = f"{figure.locator('.at').inner_text()} QUERY {seen[-1]}, WRITE {'≥ 0' if '≥' in seen[-1] else '0'}"
            expect(page.locator("#announced")).to_have_text(said)  # once a key, for the ear
        assert seen.count("≥ 4.00") == 1  # of a slot of half a second
        assert seen.count("0") == 39

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_reason_that_the_page_does_not_know_has_a_total_of_its_own(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")

    async def around(answer: APP, scope: Any, receive: Any, send: Any) -> None:
        async def and_more(message: Any) -> None:
            await send(message)
            if b": vizpipe" in message.get("body", b"") and not scope["query_string"]:
                data = b'event: missed\ndata: {"missed":4,"reason":"relay"}\n\n'
                await send({"type": "http.response.body", "body": data, "more_body": True})

        await answer(scope, receive, and_more)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("[data-reason=relay]")).to_have_text("4")
        expect(page.locator("#missed-all")).to_have_text("4")
        expect(page.locator(".reason").last).to_have_text("relay4")
        expect(rows(page).first).to_have_text("4 events missing here: lost between the server’s processes")
        page.get_by_role("checkbox", name="QUERY").check()  # another question, another answer
        expect(page.locator("#missed-all")).to_have_text("0")
        expect(page.locator("[data-reason=relay]")).to_have_count(0)
        expect(page.locator("[data-reason=slow]")).to_have_text("0")

    wrap(app, around)
    async with serve(app) as url:
        await browse(script)


async def test_a_page_that_cannot_keep_up_is_told_what_it_missed(browse: Chromium) -> None:
    pipe = Pipe(capacity=40_000, client_capacity=40_000)
    app = make_app(pipe, token="right")
    stand_still = StandStill(browse, app)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        other = new_tab(page.context, url + VIZ)
        # Until the hub, which goes on in its worker, has all events: it tells the other tab.
        with stand_still(page):
            browse.in_trio(emit_at_once, pipe, 30_000)
            other.wait_for_function("""() => {
                const [seen, missed] = ["seen", "missed-all"].map((id) => document.getElementById(id).innerText);
                return Number(seen.replace(",", "")) + Number(missed.replace(",", "")) === 30_000;
            }""")
        pipe.emit(Event())
        expect(page.locator("[data-reason=slow]")).not_to_have_text("0")
        missed = number(page, "[data-reason=slow]")
        expect(page.locator("#seen")).to_have_text(f"{30_001 - missed:,}")
        assert number(page, "#missed-all") == missed

    async with serve(app) as url:
        await browse(script, quiet=False)  # the browser warns of a request that blocks


# The connection


async def test_a_cut_stream_counts_down_comes_back_and_gets_each_event_once(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    cut = cut_short(app)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="before"))
        expect(rows(page)).to_have_count(1)
        browse.in_trio(cut)
        expect(page.locator("#words")).to_have_text(re.compile(r"^Reconnecting in \d+ s$"))
        expect(page.get_by_role("status").first).to_have_text("Reconnecting")  # no countdown for the ear
        browse.wait_for_clients(pipe, 0)
        pipe.emit(Event(subject="meanwhile"))
        page.get_by_role("button", name="Try now").click()
        expect(page.locator("#words")).to_have_text("Live")
        expect(page.locator("#state")).to_be_focused()  # since the button is gone
        pipe.emit(Event(subject="after"))
        expect(rows(page)).to_have_count(3)
        subjects = page.locator("#events .subject").all_inner_texts()
        assert subjects == ["after", "meanwhile", "before"]
        assert (number(page, "#seen"), number(page, "#missed-all")) == (3, 0)

    async with serve(app) as url:
        await browse(script)


async def test_what_comes_late_is_shown_where_it_would_have_come(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    cut = cut_short(app)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event())
        expect(rows(page)).to_have_count(1)
        browse.in_trio(cut)
        browse.wait_for_clients(pipe, 0)
        for _ in range(3):
            page.wait_for_timeout(1000)
            pipe.emit(Event())
            pipe.emit(Event())
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Try now").click()
        expect(rows(page)).to_have_count(7)
        figure = page.locator("[data-chart=rates]")
        page.get_by_role("button", name="Pause").click()
        expect(figure.locator(".now")).to_contain_text("at")  # it is drawn, and holds still
        figure.focus()
        seen: list[float] = []
        for _ in range(50):  # slots of half a second
            page.keyboard.press("ArrowLeft")
            text = figure.locator("[data-value=QUERY]").inner_text()
            seen.append(0 if text == "–" else float(text))  # before the page was there
        assert max(seen) <= 4  # two in a slot; all six at once would be twelve a second
        assert len([rate for rate in seen if rate > 0]) >= 3

    async with serve(app) as url:
        await browse(script)


async def test_a_page_that_had_seen_no_event_does_not_know_what_went_by_without_it(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    cut = cut_short(app)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        browse.in_trio(cut)
        browse.wait_for_clients(pipe, 0)
        pipe.emit(Event(subject="meanwhile"))
        page.get_by_role("button", name="Try now").click()
        expect(page.locator("[data-reason=history]")).to_have_text("?")
        expect(rows(page).first).to_contain_text("An unknown number of events missing here")

    async with serve(app) as url:
        await browse(script)


async def test_a_stream_that_has_gone_silent_is_given_up(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right", heartbeat_interval=0.5)
    silent = False

    async def around(answer: APP, scope: Any, receive: Any, send: Any) -> None:
        async def swallow(message: Any) -> None:
            if not silent:
                await send(message)

        await answer(scope, receive, swallow)

    def hush(hushed: bool) -> None:
        nonlocal silent
        silent = hushed

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        browse.in_trio(hush, True)
        expect(page.locator("#words")).to_contain_text("Reconnecting")
        browse.in_trio(hush, False)
        expect(page.locator("#words")).to_have_text("Live")

    wrap(app, around)
    async with serve(app) as url:
        await browse(script)


async def test_after_a_restart_it_comes_back_and_says_that_it_cannot_know_what_it_missed(
    browse: Chromium,
) -> None:
    pipes = [Pipe(), Pipe()]
    apps = [make_app(pipe, token="right") for pipe in pipes]
    restart = trio.Event()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipes[0], 1)
        pipes[0].emit(Event(subject="first life"))
        expect(rows(page)).to_have_count(1)
        browse.in_trio(restart.set)
        browse.wait_for_clients(pipes[1], 1)
        expect(page.locator("#words")).to_have_text("Live")
        pipes[1].emit(Event(subject="second life"))
        expect(rows(page)).to_have_count(3)
        expect(rows(page).nth(1)).to_contain_text("gone before this page came back")
        expect(page.locator("[data-reason=history]")).to_have_text("?")
        expect(page.locator("#seen")).to_have_text("2")

    started, done = trio.Event(), trio.Event()

    async def lives(port: int) -> None:
        async with serve(apps[0], port=port):
            started.set()
            await restart.wait()
            pipes[0].stop()
        async with serve(apps[1], port=port):
            await done.wait()

    with reserved_port() as port:
        url = f"http://127.0.0.1:{port}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lives, port)
            await started.wait()
            await browse(script, quiet=False)  # it may have called when nobody was there
            done.set()


async def test_without_a_token_it_asks_for_one_until_it_is_the_right_one(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        expect(page.locator("#words")).to_have_text("Refused")
        expect(page.get_by_role("heading", name="This stream needs a token")).to_be_visible()
        expect(page.locator("#notice-why")).to_contain_text("401: the right token is needed")
        field = page.locator("#token")
        field.fill("rigth")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="The server does not take this token")).to_be_visible()
        expect(field).to_have_value("rigth")
        expect(field).to_be_focused()
        field.fill("right")
        page.keyboard.press("Enter")
        expect(page.locator("#words")).to_have_text("Live")
        expect(page.locator("#notice")).to_be_hidden()
        expect(field).to_have_value("")
        expect(page.locator("#state")).to_be_focused()

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_with_a_wrong_token_it_says_so(browse: Chromium) -> None:
    def script(page: Page) -> None:
        page.goto(url + "/viz/?token=wrong")
        expect(page.get_by_role("heading", name="The server does not take this token")).to_be_visible()
        page.get_by_role("textbox", name="Token").fill("right")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#words")).to_have_text("Live")

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script, quiet=False)


@pytest.mark.parametrize("token", ["“right”", "a\nb", "a\0b"])
async def test_a_token_that_no_header_takes_is_a_wrong_one(browse: Chromium, token: str) -> None:
    def script(page: Page) -> None:
        page.goto(f"{url}/viz/?token=x{quote(token)}")
        expect(page.get_by_role("heading", name="The server does not take this token")).to_be_visible()

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script)


async def test_a_filter_that_does_not_exist_is_refused_in_the_servers_words(browse: Chromium) -> None:
    def script(page: Page) -> None:
        page.goto(url + VIZ + "&op=READ")
        expect(page.locator("#words")).to_have_text("Refused")
        expect(page.locator("#notice-why")).to_have_text(
            "400: there is no op 'READ'. There are: QUERY, WRITE"
        )
        page.get_by_role("button", name="Try now").click()  # the only way: it is for good
        expect(page.locator("#state")).to_be_focused()
        expect(page.locator("#words")).to_have_text("Refused")
        page.get_by_role("button", name="Clear").click()
        expect(page.locator("#words")).to_have_text("Live")

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script)


@pytest.mark.parametrize("status", [200, 404])
async def test_an_answer_that_is_no_stream_is_not_taken_for_one_and_may_pass(
    browse: Chromium, status: int
) -> None:
    app = make_app(Pipe())
    answers = ["<h1>Log in, or no such server</h1>"]

    @app.before_request
    async def log_in() -> Response | None:  # noqa: ASYNC124 - Quart's interface
        return Response(answers[-1], status) if request.path == EVENTS and answers else None

    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        expect(page.locator("#words")).to_have_text(re.compile(r"^Refused, next try in \d+ s$"))
        expect(page.locator("#notice-why")).to_have_text(f"{status}: the answer is not an event stream")
        expect(page.get_by_role("button", name="Try now")).to_be_visible()
        browse.in_trio(answers.clear)
        expect(page.locator("#words")).to_have_text("Live")  # by itself
        expect(page.locator("#notice")).to_be_hidden()

    async with serve(app) as url:
        await browse(script)


async def test_what_a_gateway_says_is_waited_out(browse: Chromium) -> None:
    app = make_app(Pipe())
    answers = [
        ("null", "application/json"),
        ("<h1>Down for maintenance</h1>", "text/html"),
        ('{"error": "upstream unavailable"}', "application/json"),
        ('{"error": {"code": 503, "message": "upstream unavailable"}}', "application/json"),
    ]

    @app.before_request
    async def gate() -> Response | None:  # noqa: ASYNC124 - Quart's interface
        if request.path != EVENTS or not answers:
            return None
        body, kind = answers.pop()
        return Response(body, 503, {"Content-Type": kind, "Retry-After": "600"})

    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        for left in (3, 2, 1, 0):
            browse.wait_until(lambda left=left: len(answers) == left)  # type: ignore[misc]
            expect(page.locator("#words")).to_have_text(re.compile(r"^Reconnecting in \d+ s$"))
            expect(page.locator("#notice")).to_be_hidden()
            page.get_by_role("button", name="Try now").click()
        expect(page.locator("#words")).to_have_text("Live")

    async with serve(app) as url:
        await browse(script)


async def test_a_server_that_wants_to_be_left_alone_for_weeks_is_left_alone(browse: Chromium) -> None:
    app = make_app(Pipe())
    asked = 0

    @app.before_request
    async def gate() -> Response | None:  # noqa: ASYNC124 - Quart's interface
        nonlocal asked
        if request.path != EVENTS:
            return None
        asked += 1
        return Response("", 503, {"Retry-After": "3000000"})  # too long for a browser's timer

    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        expect(page.locator("#words")).to_have_text(re.compile(r"^Reconnecting in (3000000|29\d+) s$"))
        page.wait_for_timeout(300)
        assert asked == 1

    async with serve(app) as url:
        await browse(script)


async def test_over_the_limit_it_waits_for_a_place_and_takes_it(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&op=WRITE")
        browse.wait_for_clients(pipe, 1)
        other = page.context.new_page()
        other.goto(url + VIZ + "&op=QUERY")
        expect(other.locator("#words")).to_have_text(re.compile(r"^Over the limit, next try in [1-5] s$"))
        expect(other.locator("#notice-why")).to_have_text("503: all 1 places are taken")
        page.close()
        expect(other.locator("#words")).to_have_text("Live")

    async with serve(make_app(pipe, token="right", max_clients=1)) as url:
        await browse(script)


async def test_rates_are_of_the_time_in_which_events_could_be_seen(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe)
    is_full = True

    @app.before_request
    async def gate() -> Response | None:  # noqa: ASYNC124 - Quart's interface
        if request.path != EVENTS or not is_full:
            return None
        return Response('{"error": "all 1 places are taken"}', 503, {"Retry-After": "600"})

    def make_room() -> None:
        nonlocal is_full
        is_full = False

    def script(page: Page) -> None:
        page.clock.install()
        page.goto(url + "/viz/")
        expect(page.locator("#words")).to_contain_text("Over the limit")
        page.clock.run_for(20_000)
        browse.in_trio(make_room)
        page.get_by_role("button", name="Try now").dispatch_event("click")
        expect(page.locator("#words")).to_have_text("Live")
        browse.in_trio(emit_at_once, pipe, 50)
        expect(page.locator("#seen")).to_have_text("50")
        page.clock.run_for(1000)
        rate = page.locator("[data-value=QUERY]")
        expect(rate).not_to_have_text(re.compile("^(0|≥.*)$"))
        assert float(rate.inner_text()) > 5  # of twenty seconds it would be 2.5

    async with serve(app) as url:
        await browse(script)


async def test_a_rate_of_the_first_seconds_is_that_of_the_slots_that_it_counts(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        page.wait_for_timeout(1500)
        said: list[float] = []
        for _ in range(12):
            page.wait_for_timeout(250)
            said.append(float(page.locator("[data-chart=rates] .headline").inner_text()))
        assert 95 < median(said) < 105  # whatever a few said just when the machine had stood still

    async with serve(make_app(pipe, token="right")) as url, trio.open_nursery() as nursery:
        nursery.start_soon(emit_on, pipe)
        await browse(script)
        nursery.cancel_scope.cancel()


async def test_what_waited_while_the_page_stood_still_is_shown_where_it_would_have_come(
    browse: Chromium,
) -> None:
    pipe = Pipe(client_capacity=2000)
    app = make_app(pipe, token="right")
    stand_still = StandStill(browse, app)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        page.wait_for_timeout(2000)
        with stand_still(page):
            browse.run_in_trio(trio.sleep, 6)
        page.wait_for_timeout(1500)
        page.wait_for_function(AS_MANY_AS_CAME)
        page.get_by_role("button", name="Pause").click()
        figure = page.locator("[data-chart=rates]")
        expect(figure.locator(".now")).to_contain_text("at")
        figure.focus()
        seen: list[float] = []
        for _ in range(16):
            page.keyboard.press("ArrowLeft")
            seen.append(float(figure.locator("[data-value=QUERY]").inner_text()))
        # Also where the machine stood still for two seconds, in which none were made.
        assert max(seen) < 700  # all at once would be more than a thousand a second
        assert sum(rate > 50 for rate in seen) >= 10

    async with serve(app) as url, trio.open_nursery() as nursery:
        nursery.start_soon(emit_on, pipe)
        await browse(script, quiet=False)  # the browser warns of a request that blocks
        nursery.cancel_scope.cancel()


async def test_when_the_pipe_has_ended_it_says_so(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        pipe.stop()
        expect(page.locator("#words")).to_have_text(re.compile(r"^Ended, next try in [1-5] s$"))
        expect(page.locator("#notice-why")).to_have_text("503: the pipe has ended")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_the_page_says_when_the_servers_processes_have_lost_the_relay_between_them(
    browse: Chromium,
) -> None:
    pipe = Pipe()
    relay = RedisRelay(pipe, "redis://127.0.0.1:1")
    app = make_app(pipe, token="right")

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        lost = "Other processes’ events are late: OSError: all attempts to connect to 127.0.0.1:1 failed"
        expect(page.locator("#relay")).to_have_text(lost)
        expect(page.locator("#relay")).to_be_visible()
        other = new_tab(page.context, page.url)  # without a token: it asks with the one of this tab
        expect(other.locator("#relay")).to_have_text(lost)

    async with serve(app) as url, trio.open_nursery() as nursery:
        nursery.start_soon(relay.run)
        await until(lambda: relay.statistics().fault != "not started")
        await browse(script)
        nursery.cancel_scope.cancel()


async def test_a_server_without_a_relay_is_asked_for_it_once(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if STATS in request.url else None)
        page.clock.install()
        with page.expect_response(lambda response: STATS in response.url):
            page.goto(url + VIZ)
        page.clock.run_for(60_000)
        expect(page.locator("#relay")).to_be_hidden()
        assert len(asked) == 1

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)

"""Many tabs of one browser, which allows six connections to a host."""

import re
from typing import Any

import pytest
from browsing import WITHOUT_WORKERS, Chromium, StandStill, new_tab, number, rows
from playwright.sync_api import BrowserContext, Page, expect
from playwright.sync_api import Error as PlaywrightError
from quart import Response, request
from quart_trio import QuartTrio
from support import EVENTS, make_app, serve

from vizpipe_trio import Event, Pipe

WITHOUT_LOCKS = WITHOUT_WORKERS + "; Object.defineProperty(navigator, 'locks', {value: undefined})"


def tabs(context: BrowserContext, url: str, queries: list[str]) -> list[Page]:
    return [new_tab(context, f"{url}/viz/?token=right{query}") for query in queries]


def expect_all_three(tab: Page) -> None:
    """Have the events "before", "meanwhile" and "after" come, each once and in order."""
    expect(rows(tab)).to_have_count(3)
    assert tab.locator("#events .subject").all_inner_texts() == ["after", "meanwhile", "before"]
    assert (number(tab, "#seen"), number(tab, "#missed-all")) == (3, 0)


def see_one(page: Page, url: str, pipe: Pipe, *, connections: int) -> list[Page]:
    """Have two tabs see an event over so many connections."""
    opened = tabs(page.context, url, ["", ""])
    pipe.emit(Event())
    for tab in opened:
        expect(rows(tab)).to_have_count(1)
    assert pipe.statistics().clients == connections
    return opened


def hasten(app: QuartTrio) -> None:
    """Have hub and tabs look after each other often, and give up early: not for any pause of a busy machine."""
    faster = {
        "/viz/hub.js": ("PING_MS = 3000;", "PING_MS = 100;"),
        "/viz/link.js": ("SILENCE_MS = 5000;", "SILENCE_MS = 1500;"),
    }

    @app.after_request
    async def replace(response: Response) -> Response:
        if request.path in faster:
            script = await response.get_data(as_text=True)
            assert faster[request.path][0] in script
            response.set_data(script.replace(*faster[request.path]))
        return response


async def test_seven_tabs_share_one_connection(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        opened = tabs(page.context, url, [""] * 7)
        pipe.emit(Event(subject="for all"))
        for tab in opened:
            expect(rows(tab)).to_have_count(1)
        assert pipe.statistics().clients == 1
        assert pipe.statistics().delivered == 1

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_the_tab_that_holds_the_connection_hands_it_on_and_nothing_is_lost(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_WORKERS)
        first, *others = tabs(page.context, url, [""] * 3)
        assert pipe.statistics().clients == 1
        pipe.emit(Event(subject="before"))
        for tab in others:
            expect(rows(tab)).to_have_count(1)
        first.close()
        pipe.emit(Event(subject="meanwhile"))
        for tab in others:
            expect(rows(tab)).to_have_count(2)
        pipe.emit(Event(subject="after"))
        for tab in others:
            expect_all_three(tab)

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_tabs_come_and_go_and_the_last_one_ends_the_connection(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        first, second = tabs(page.context, url, ["", ""])
        first.close()
        pipe.emit(Event())
        expect(rows(second)).to_have_count(1)
        assert pipe.statistics().clients == 1
        second.goto("about:blank")
        browse.wait_for_clients(pipe, 0)

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_seven_tabs_with_different_filters_take_four_connections_and_count_right(
    browse: Chromium,
) -> None:
    pipe = Pipe()
    queries = [
        "&op=WRITE",
        "&op=QUERY",
        "&status=DENIED",
        "&label=a",
        "&source=gate",
        "&actor_type=agent",
        "",
    ]

    def script(page: Page) -> None:
        opened = tabs(page.context, url, queries)
        assert pipe.statistics().clients == 4  # three filters, and one of everything for the others
        pipe.emit(Event(op="WRITE", labels=["a"], source="gate"))
        pipe.emit(Event(op="QUERY", status="DENIED", actor_type="agent"))
        pipe.emit(Event(op="QUERY", labels=["b", "a"]))
        for tab, seen in zip(opened, [1, 2, 1, 2, 1, 1, 3], strict=True):
            expect(tab.locator("#seen")).to_have_text(str(seen))

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_a_tab_whose_filter_is_applied_here_does_not_know_how_many_it_missed(browse: Chromium) -> None:
    pipe = Pipe(capacity=2)
    queries = ["&op=WRITE", "&op=QUERY", "&status=DENIED", "&label=a", ""]

    def burst() -> None:
        for _ in range(5):
            pipe.emit(Event())

    def script(page: Page) -> None:
        *_, filtered, everything = tabs(page.context, url, queries)
        browse.in_trio(burst)
        expect(everything.locator("#missed-all")).to_have_text("3")
        expect(filtered.locator("#missed-all")).to_have_text("?")

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_a_page_whose_policy_forbids_workers_shares_a_tab_instead(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    hasten(app)  # Chromium does not always say that it was forbidden
    blocked = 0

    @app.after_request
    async def forbid(response: Response) -> Response:  # noqa: ASYNC124 - Quart's interface
        nonlocal blocked
        if request.path == "/viz/worker.js":
            blocked += 1
            return Response("no", 403)
        return response

    def script(page: Page) -> None:
        see_one(page, url, pipe, connections=1)

    async with serve(app, seconds=120) as url:
        await browse(script, quiet=False)
    assert blocked


async def test_a_worker_that_never_says_a_word_is_done_without(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    hasten(app)

    @app.after_request
    async def mute(response: Response) -> Response:  # noqa: ASYNC124 - Quart's interface
        if request.path == "/viz/worker.js":
            response.set_data("")
        return response

    def script(page: Page) -> None:
        see_one(page, url, pipe, connections=1)

    async with serve(app, seconds=120) as url:
        await browse(script)


async def test_the_others_go_on_when_the_tab_crashes_that_had_begun_the_worker(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    hasten(app)

    def script(page: Page) -> None:
        first, *others = tabs(page.context, url, [""] * 3)
        pipe.emit(Event(subject="before"))
        for tab in others:
            expect(rows(tab)).to_have_count(1)
        with pytest.raises(PlaywrightError):
            first.goto("chrome://crash")
        browse.wait_for_clients(pipe, 0)
        pipe.emit(Event(subject="meanwhile"))
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="after"))
        for tab in others:
            expect_all_three(tab)

    async with serve(app, seconds=120) as url:
        await browse(script, quiet=False)  # what crashes complains


async def test_a_tab_that_stands_still_does_not_keep_the_events_from_the_others(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    stand_still = StandStill(browse, app)
    hasten(app)

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_WORKERS)
        holder, other = tabs(page.context, url, [""] * 2)
        pipe.emit(Event(subject="before"))
        expect(rows(other)).to_have_count(1)
        assert pipe.statistics().clients == 1
        with stand_still(holder):
            pipe.emit(Event(subject="meanwhile"))
            browse.wait_for_clients(pipe, 2)  # the other one has a connection of its own
            pipe.emit(Event(subject="after"))
            expect(rows(other)).to_have_count(3)
            assert other.locator("#events .subject").all_inner_texts() == ["after", "meanwhile", "before"]
        for tab in (holder, other):
            expect(tab.locator("#seen")).to_have_text("3")
            assert number(tab, "#missed-all") == 0

    async with serve(app, seconds=120) as url:
        await browse(script, quiet=False)  # the browser warns of a request that blocks


async def test_a_tab_without_a_token_goes_on_when_the_one_that_has_it_is_closed(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_WORKERS)
        first = new_tab(page.context, f"{url}/viz/?token=right")
        second = new_tab(page.context, f"{url}/viz/")
        pipe.emit(Event())
        expect(rows(second)).to_have_count(1)
        first.close()
        pipe.emit(Event())
        expect(rows(second)).to_have_count(2)
        expect(second.locator("#words")).to_have_text("Live")

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_a_lent_token_that_is_not_taken_any_more_gives_way_to_a_good_one(browse: Chromium) -> None:
    pipe = Pipe()
    tokens = ["old"]
    app = make_app(pipe)

    @app.before_request
    async def guard() -> Response | None:  # noqa: ASYNC124 - Quart's interface
        if request.path != EVENTS or request.headers.get("Authorization") == f"Bearer {tokens[-1]}":
            return None
        return Response('{"error": "the right token is needed"}', 401)

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_WORKERS)
        first = new_tab(page.context, f"{url}/viz/?token=old")
        second = new_tab(page.context, f"{url}/viz/")
        tokens.append("new")
        first.close()
        expect(second.locator("#words")).to_have_text("Refused")
        new_tab(page.context, f"{url}/viz/?token=new")
        expect(second.locator("#words")).to_have_text("Live")

    async with serve(app, seconds=120) as url:
        await browse(script, quiet=False)  # the browser warns of what is refused


async def test_without_workers_and_locks_each_tab_has_its_own_connection(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_LOCKS)
        first, _ = see_one(page, url, pipe, connections=2)
        first.goto("about:blank")
        browse.wait_for_clients(pipe, 1)

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_a_tab_that_had_seen_no_event_does_not_know_what_went_by_at_a_handover(
    browse: Chromium,
) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_WORKERS)
        first, second = tabs(page.context, url, ["", ""])
        first.close()
        expect(second.locator("#missed-all")).to_have_text("?")
        browse.wait_for_clients(pipe, 1)

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_a_page_that_comes_back_out_of_the_cache_says_when_it_may_have_missed_some(
    browse: Chromium,
) -> None:
    pipe = Pipe()
    leave = "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
    come_back = "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"

    def script(page: Page) -> None:
        [tab] = tabs(page.context, url, [""])
        tab.evaluate(leave)
        browse.wait_for_clients(pipe, 0)
        expect(tab.locator("#words")).to_have_text("Reconnecting")
        [other] = tabs(page.context, url, [""])  # whose stream is another one
        tab.evaluate(come_back)
        expect(tab.locator("#words")).to_have_text("Live")
        expect(tab.locator("#missed-all")).to_have_text("?")
        expect(other.locator("#missed-all")).to_have_text("0")
        other.close()
        pipe.emit(Event())
        expect(tab.locator("#seen")).to_have_text("1")
        tab.evaluate(leave)
        browse.wait_for_clients(pipe, 0)
        pipe.emit(Event())
        tab.evaluate(come_back)
        expect(tab.locator("#seen")).to_have_text("2")  # the server kept it

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_a_tab_that_stood_still_for_long_comes_back_and_misses_nothing(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    stand_still = StandStill(browse, app)
    hasten(app)

    def script(page: Page) -> None:
        page.goto(url + "/viz/?token=right")
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="before"))
        expect(rows(page)).to_have_count(1)
        with stand_still(page):
            browse.wait_for_clients(pipe, 0)  # the hub has given it up
            pipe.emit(Event(subject="meanwhile"))
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="after"))
        expect(rows(page)).to_have_count(3)
        assert page.locator("#events .subject").all_inner_texts() == ["after", "meanwhile", "before"]
        assert number(page, "#missed-all") == 0

    async with serve(app, seconds=120) as url:
        await browse(script, quiet=False)  # the browser warns of a request that blocks


async def test_a_machine_that_slept_keeps_its_tabs(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.add_init_script(WITHOUT_LOCKS)  # the clock of this page is that of its hub
        page.clock.install()
        page.goto(url + "/viz/?token=right")
        expect(page.locator("#words")).to_have_text("Live")
        page.clock.fast_forward(600_000)  # each timer ends once, as after a lid was closed and opened
        page.clock.run_for(5000)
        expect(page.locator("#words")).to_have_text("Live")
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event())
        expect(rows(page).first).to_contain_text("ALLOWED")

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_tabs_go_on_exactly_at_a_handover_whatever_an_id_looks_like(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    answer = app.asgi_app

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        async def send_longer(message: Any) -> None:
            if "body" in message:
                body = re.sub(rb"id: (\w+-\d+)\n", rb"id: \1.5-~a\n", message["body"])
                message = {**message, "body": body}
            await send(message)

        if scope["type"] == "http":
            headers = [(name, value.removesuffix(b".5-~a")) for name, value in scope["headers"]]
            scope = {**scope, "headers": headers}
        await answer(scope, receive, send_longer)

    app.asgi_app = asgi_app  # type: ignore[method-assign]
    slow = """let own;
        const post = BroadcastChannel.prototype.postMessage;
        BroadcastChannel.prototype.postMessage = function (message) {
            own = message.from;
            setTimeout(() => post.call(this, message), 300);
        };
        let joined = 0; // hubs whose stream was live for this tab
        const heard = new BroadcastChannel("vizpipe 1 " + new URL("/api/viz/events", location.origin));
        heard.onmessage = ({ data: { to, message } }) => {
            if (to === own && message.state?.name === "live") document.documentElement.dataset.joined = joined += 1;
        };
    """

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_WORKERS)
        queries = ["&op=WRITE", "&op=QUERY", "&status=DENIED", "&actor_type=agent", "&label=rare"]
        holder, *_, rare = tabs(page.context, url, queries)
        everything = page.context.new_page()
        everything.add_init_script(slow)  # at the handover it tells late where it was
        everything.goto(f"{url}/viz/?token=right")
        expect(everything.locator("#words")).to_have_text("Live")
        # Now all have a place to go on from.
        pipe.emit(Event(status="DENIED", actor_type="agent", labels=["rare"]))
        for _ in range(19):
            pipe.emit(Event())
        pipe.emit(Event(labels=["rare"]))
        expect(rare.locator("#seen")).to_have_text("2")
        expect(everything.locator("#seen")).to_have_text("21")
        holder.close()
        browse.wait_until(lambda: pipe.statistics().clients == 0)
        expect(everything.locator("html")).to_have_attribute("data-joined", "2")
        pipe.emit(Event(labels=["rare"]))
        expect(rare.locator("#seen")).to_have_text("3")
        expect(everything.locator("#seen")).to_have_text("22")
        assert [tab.locator("#missed-all").inner_text() for tab in (rare, everything)] == ["0", "0"]

    async with serve(app, seconds=120) as url:
        await browse(script)


async def test_the_server_says_of_the_fourth_filter_too_that_it_does_not_exist(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        tabs(page.context, url, ["&op=WRITE", "&op=QUERY", "&status=DENIED"])
        fourth = page.context.new_page()
        fourth.goto(url + "/viz/?token=right&op=READ")
        expect(fourth.locator("#words")).to_have_text("Refused")
        expect(fourth.locator("#notice-why")).to_contain_text("400: there is no op 'READ'")

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


async def test_a_tab_without_a_token_takes_that_of_a_tab_that_is_opened_later(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        expect(page.locator("#words")).to_have_text("Refused")
        tabs(page.context, url, [""])
        expect(page.locator("#words")).to_have_text("Live")
        assert pipe.statistics().clients == 1

    async with serve(make_app(pipe, token="right"), seconds=120) as url:
        await browse(script)


HEAR = """async (messages) => {
    const port = { postMessage() {} };
    window.SharedWorker = class { port = port; };
    const { Link } = await import("/viz/link.js");
    const items = [];
    const link = new Link({ state() {}, items: (more) => items.push(...more.map(({ id, reason }) => id ?? reason)) });
    link.watch({});
    for (const message of messages) port.onmessage({ data: { watch: 1, ...message } });
    return items;
}"""


def items(place: str, *ids: str) -> dict[str, Any]:
    return {"type": "items", "items": [{"id": name, "data": ""} for name in ids], "place": place}


def live(place: str) -> dict[str, Any]:
    return {"type": "state", "state": {"name": "live"}, "place": place}


async def test_a_tab_goes_on_in_the_stream_of_another_one_without_computing_with_ids(
    browse: Chromium,
) -> None:
    first = [live("\n0.1"), items("a-1", "a-1"), items("a-3.5~", "a-2.5", "a-3.5~")]
    seen = ["a-1", "a-2.5", "a-3.5~"]
    cases = [
        ([live("a-2.5"), items("b-9", "a-3.5~", "b-9")], [*seen, "b-9"]),  # that one was behind
        ([live("a-3.5~"), items("b-9", "b-9")], [*seen, "b-9"]),
        ([live("a-7"), items("b-9", "b-9")], [*seen, "history", "b-9"]),  # that one was ahead
        ([live("\n0.2")], [*seen, "history"]),
        ([items("a-8"), live("a-8"), items("b-9", "b-9")], [*seen, "b-9"]),  # a-8 was not for this tab
    ]

    def script(page: Page) -> None:
        page.goto(url + "/viz/?token=right")
        for then, told in cases:
            assert page.evaluate(HEAR, first + then) == told

    async with serve(make_app(Pipe(), token="right"), seconds=120) as url:
        await browse(script)

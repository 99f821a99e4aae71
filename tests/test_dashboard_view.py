"""What the dashboard is asked to show: filters, the free text, pause, and the address that keeps them."""

import re

from browsing import Chromium, new_tab, number, rows
from playwright.sync_api import Page, expect
from support import make_app, serve

from vizpipe_trio import Event, Pipe

VIZ = "/viz/?token=right"


async def test_the_token_leaves_the_address_and_stays_with_its_tab(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&op=WRITE")
        expect(page.locator("#words")).to_have_text("Live")
        expect(page).to_have_url(url + "/viz/?op=WRITE")
        page.reload()
        expect(page.locator("#words")).to_have_text("Live")
        assert page.evaluate("Object.entries(localStorage).length") == 0
        assert page.evaluate("document.cookie") == ""

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_no_request_has_the_token_in_its_address_but_the_pages_own(browse: Chromium) -> None:
    asked: list[str] = []
    app = make_app(Pipe(), token="right")
    answer = app.asgi_app

    async def asgi_app(scope: dict[str, object], receive: object, send: object) -> None:
        asked.append(f"{scope.get('path')} {scope.get('query_string')!r}")
        await answer(scope, receive, send)  # type: ignore[arg-type]

    app.asgi_app = asgi_app  # type: ignore[assignment, method-assign]

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")

    async with serve(app) as url:
        await browse(script)
    assert [line for line in asked if "right" in line] == ["/viz/ b'token=right'"]
    assert "/api/viz/events b''" in asked


async def test_filters_are_the_servers_and_are_kept_in_the_address(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        page.get_by_role("checkbox", name="WRITE").check()
        page.get_by_role("checkbox", name="DENIED").check()
        page.get_by_role("checkbox", name="agent").check()
        page.get_by_role("textbox", name="Add a source").fill("gate")
        page.keyboard.press("Enter")
        page.get_by_role("textbox", name="Add a label").fill("a&b")
        page.keyboard.press("Enter")
        query = "op=WRITE&status=DENIED&actor_type=agent&source=gate&label=a%26b"
        expect(page).to_have_url(f"{url}/viz/?{query}")
        expect(page.locator("#words")).to_have_text("Live")
        wanted = {"op": "WRITE", "status": "DENIED", "actor_type": "agent", "source": "gate"}
        pipe.emit(Event(subject="no"))
        pipe.emit(Event(subject="no label", **wanted))  # type: ignore[arg-type]
        pipe.emit(Event(subject="yes", labels=["c", "a&b"], **wanted))  # type: ignore[arg-type]
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text("yes")
        assert pipe.statistics().filtered == 2
        page.get_by_role("checkbox", name="a&b").click()
        expect(page).to_have_url(f"{url}/viz/?op=WRITE&status=DENIED&actor_type=agent&source=gate")
        expect(page.get_by_role("checkbox", name="a&b")).to_have_count(0)

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_an_address_that_is_shared_shows_the_same_view(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        page.get_by_role("checkbox", name="WRITE").check()
        page.get_by_role("textbox", name="Add a label").fill("a")
        page.keyboard.press("Enter")
        page.get_by_role("searchbox", name="Text").fill("cheese")
        page.get_by_role("radio", name="2 min").check()
        expect(page).to_have_url(f"{url}/viz/?op=WRITE&label=a&text=cheese&window=120")
        other = new_tab(page.context, page.url)  # without a token: this browser has one
        expect(other).to_have_url(page.url)
        expect(other.get_by_role("checkbox", name="WRITE")).to_be_checked()
        expect(other.get_by_role("checkbox", name="a", exact=True)).to_be_checked()
        expect(other.get_by_role("searchbox", name="Text")).to_have_value("cheese")
        expect(other.get_by_role("radio", name="2 min")).to_be_checked()
        pipe.emit(Event(op="WRITE", labels=["a"], subject="cheese"))
        expect(rows(other)).to_have_count(1)

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_the_address_says_what_is_shown_and_no_more(browse: Chromium) -> None:
    def script(page: Page) -> None:
        page.goto(url + VIZ + "&actor=agent&window=45&source=&text=%20&op=WRITE")
        expect(page.locator("#words")).to_have_text("Live")
        expect(page).to_have_url(f"{url}/viz/?op=WRITE")
        assert page.get_by_role("checkbox", checked=True).count() == 1

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script)


async def test_free_text_narrows_the_table_and_not_the_figures(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="Old Cheese"))
        pipe.emit(Event(subject="bread"))
        expect(rows(page)).to_have_count(2)
        page.get_by_role("searchbox", name="Text").fill("cheese")
        expect(rows(page)).to_have_count(1)
        pipe.emit(Event(subject="butter"))
        pipe.emit(Event(labels=["cheese"], request_id="r4"))
        expect(rows(page)).to_have_count(2)
        assert page.locator("#events .subject").all_inner_texts() == ["r4", "Old Cheese"]
        assert number(page, "#seen") == 4
        page.get_by_role("button", name="Clear").click()
        expect(rows(page)).to_have_count(4)

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_pause_holds_the_picture_and_goes_on_counting(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="e0"))
        expect(rows(page)).to_have_count(1)
        page.get_by_role("button", name="Pause").click()
        for index in range(1, 8):
            pipe.emit(Event(subject=f"e{index}"))
        expect(page.locator("#tail-note")).to_have_text("Paused: 7 went by")
        assert number(page, "#seen") == 8
        expect(rows(page)).to_have_count(1)
        page.get_by_role("button", name="Resume").click()
        expect(rows(page)).to_have_count(8)
        expect(rows(page).first).to_contain_text("e7")
        expect(page.locator("#tail-note")).to_have_text("")
        expect(page.locator("[data-value=ALLOWED]")).to_have_text("100%")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_window_is_chosen_and_forgets_what_has_left_it(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.clock.install()
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(total_ms=10))
        page.clock.run_for(1000)
        expect(page.locator("[data-value=p50]")).to_have_text("9.87 ms")
        page.clock.run_for(31_000)
        expect(page.locator("[data-value=p50]")).to_have_text("–")
        page.get_by_role("radio", name="2 min").dispatch_event("click")
        page.clock.run_for(1000)
        expect(page.locator("[data-value=p50]")).to_have_text("9.87 ms")
        page.clock.run_for(121_000)
        expect(page.locator("[data-value=p50]")).to_have_text("–")
        page.get_by_role("radio", name="10 min").dispatch_event("click")
        page.clock.run_for(1000)
        expect(page.locator("[data-value=p50]")).to_have_text("9.87 ms")
        assert number(page, "#seen") == 1

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_while_paused_another_window_is_drawn_and_the_moment_is_named(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.clock.install()
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        p50, moment = page.locator("[data-value=p50]"), page.locator(".now")
        pipe.emit(Event(total_ms=10))
        expect(p50).to_have_text("9.87 ms")  # it has come
        page.clock.run_for(40_000)
        expect(p50).to_have_text("–")  # of the last 30 s
        expect(moment).to_have_text("now")
        page.get_by_role("button", name="Pause").dispatch_event("click")
        expect(moment).to_have_text(re.compile(r"^at \d\d:\d\d:\d\d$"))
        page.get_by_role("radio", name="2 min").dispatch_event("click")
        expect(p50).to_have_text("9.87 ms")
        pipe.emit(Event(total_ms=1000))
        page.clock.run_for(1000)
        expect(page.locator("#seen")).to_have_text("2")
        expect(p50).to_have_text("9.87 ms")
        page.get_by_role("button", name="Resume").dispatch_event("click")
        expect(moment).to_have_text("now")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_while_paused_the_text_narrows_what_was_there(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="old cheese"))
        pipe.emit(Event(subject="old bread"))
        expect(rows(page)).to_have_count(2)
        page.get_by_role("button", name="Pause").click()
        pipe.emit(Event(subject="new cheese"))
        pipe.emit(Event(subject="new bread"))
        expect(page.locator("#seen")).to_have_text("4")
        page.get_by_role("searchbox", name="Text").fill("cheese")
        expect(rows(page)).to_have_text([re.compile("old cheese")])
        page.get_by_role("button", name="Resume").click()
        expect(rows(page)).to_have_text([re.compile("new cheese"), re.compile("old cheese")])

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_of_the_events_with_a_text_none_is_left_out_between_two_others(browse: Chromium) -> None:
    pipe = Pipe(capacity=10_000, client_capacity=10_000)

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&text=cheese")
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="old cheese"))
        expect(rows(page)).to_have_count(1)
        page.get_by_role("button", name="Pause").click()
        for place in range(4000):  # more than a table keeps
            pipe.emit(Event(subject="more cheese" if place == 10 else "bread"))
        pipe.emit(Event(subject="new cheese"))
        expect(page.locator("#seen")).to_have_text("4,002")
        page.get_by_role("button", name="Resume").click()
        expect(rows(page)).to_have_text([re.compile("new cheese")])
        page.get_by_role("searchbox", name="Text").fill("chees")
        expect(rows(page)).to_have_text([re.compile("new cheese")])

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_browser_that_keeps_nothing_for_a_page_shows_it(browse: Chromium) -> None:
    def script(page: Page) -> None:
        page.add_init_script("""Object.defineProperty(window, "sessionStorage", {
            get() { throw new DOMException("no", "SecurityError"); }
        })""")
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        expect(page).to_have_url(url + "/viz/")

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script)

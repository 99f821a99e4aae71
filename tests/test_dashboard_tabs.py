"""Many tabs of one browser, which allows six connections to a host."""

from browsing import Chromium, new_tab, number, rows
from playwright.sync_api import BrowserContext, Page, expect
from quart import Response, request
from support import make_app, serve

from vizpipe_trio import Event, Pipe

WITHOUT_WORKERS = "delete window.SharedWorker"
WITHOUT_LOCKS = WITHOUT_WORKERS + "; Object.defineProperty(navigator, 'locks', {value: undefined})"


def tabs(context: BrowserContext, url: str, queries: list[str]) -> list[Page]:
    return [new_tab(context, f"{url}/viz/?token=right{query}") for query in queries]


async def test_seven_tabs_share_one_connection(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        opened = tabs(page.context, url, [""] * 7)
        pipe.emit(Event(subject="for all"))
        for tab in opened:
            expect(rows(tab)).to_have_count(1)
        assert pipe.statistics().clients == 1
        assert pipe.statistics().delivered == 1

    async with serve(make_app(pipe, token="right"), seconds=60) as url:
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
            expect(rows(tab)).to_have_count(3)
            assert tab.locator("#events .subject").all_inner_texts() == ["after", "meanwhile", "before"]
            assert (number(tab, "#seen"), number(tab, "#missed-all")) == (3, 0)

    async with serve(make_app(pipe, token="right"), seconds=60) as url:
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

    async with serve(make_app(pipe, token="right"), seconds=60) as url:
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

    async with serve(make_app(pipe, token="right"), seconds=60) as url:
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

    async with serve(make_app(pipe, token="right"), seconds=60) as url:
        await browse(script)


async def test_a_page_whose_policy_forbids_workers_shares_a_tab_instead(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    blocked = 0

    @app.after_request
    async def forbid(response: Response) -> Response:  # noqa: ASYNC124 - Quart's interface
        nonlocal blocked
        if request.path == "/viz/worker.js":
            blocked += 1
            return Response("no", 403)
        return response

    def script(page: Page) -> None:
        opened = tabs(page.context, url, ["", ""])
        pipe.emit(Event())
        for tab in opened:
            expect(rows(tab)).to_have_count(1)
        assert pipe.statistics().clients == 1

    async with serve(app, seconds=60) as url:
        await browse(script, quiet=False)
    assert blocked


async def test_without_workers_and_locks_each_tab_has_its_own_connection(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_LOCKS)
        opened = tabs(page.context, url, ["", ""])
        pipe.emit(Event())
        for tab in opened:
            expect(rows(tab)).to_have_count(1)
        assert pipe.statistics().clients == 2
        opened[0].goto("about:blank")
        browse.wait_for_clients(pipe, 1)

    async with serve(make_app(pipe, token="right"), seconds=60) as url:
        await browse(script)

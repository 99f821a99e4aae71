"""The dashboard in other people's places: under a prefix, behind a proxy, with a title, on a page of theirs."""

from importlib.resources import files
from typing import Any

import pytest
from browsing import HOSTILE, WITHOUT_WORKERS, Chromium, emit_at_once, note_runs, rows, staged, wait_for_run
from playwright.sync_api import Page, expect
from quart import Response, request
from support import EVENTS, get, make_app, serve

from examples.docsearch.app import create_app
from vizpipe_trio import Event, Pipe
from vizpipe_trio._page import page_files
from vizpipe_trio.quart import viz_blueprint


async def test_all_addresses_begin_with_the_prefix(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + "/ops/viz/?token=right")
        expect(page.locator("#words")).to_have_text("Live")
        pipe.emit(Event())
        expect(rows(page)).to_have_count(1)

    async with serve(make_app(pipe, token="right", url_prefix="/ops")) as url:
        await browse(script)
        assert (await get(url, "/viz/")).status_code == 404
        assert (await get(url, "/ops/api/viz/stats?token=right")).json()["emitted"] == 1


async def test_the_token_of_one_dashboard_is_not_told_to_another(browse: Chromium) -> None:
    app = make_app(Pipe(), token="red", url_prefix="/red")
    app.register_blueprint(viz_blueprint(Pipe(), token="blue", url_prefix="/blue"), name="blue")
    told: list[tuple[str, str | None]] = []

    @app.before_request
    async def listen() -> None:  # noqa: ASYNC124 - Quart's interface
        if request.path.endswith(EVENTS):
            told.append((request.path.removesuffix(EVENTS), request.headers.get("Authorization")))

    def script(page: Page) -> None:
        for name in ("red", "blue"):
            page.goto(f"{url}/{name}/viz/?token={name}")
            expect(page.locator("#words")).to_have_text("Live")
        page.goto(f"{url}/red/viz/")
        expect(page.locator("#words")).to_have_text("Live")

    async with serve(app) as url:
        await browse(script)
    assert set(told) == {("/red", "Bearer red"), ("/blue", "Bearer blue")}


async def test_it_works_behind_a_proxy_that_strips_a_path(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right")
    answer = app.asgi_app

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/team/search")
            scope = (
                {**scope, "path": path, "raw_path": path.encode()}
                if path != scope["path"]
                else {**scope, "path": "/none"}
            )
        await answer(scope, receive, send)

    app.asgi_app = asgi_app  # type: ignore[method-assign]

    def script(page: Page) -> None:
        page.goto(url + "/team/search/viz/?token=right&op=QUERY")
        expect(page.locator("#words")).to_have_text("Live")
        expect(page).to_have_url(url + "/team/search/viz/?op=QUERY")
        pipe.emit(Event())
        expect(rows(page)).to_have_count(1)

    async with serve(app) as url:
        await browse(script)


async def test_title_and_stages_are_set_from_python_and_stand_before_the_first_event(
    browse: Chromium,
) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + "/viz/?token=right")
        expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
        assert page.locator(".viz-name").all_text_contents() == ["merge", HOSTILE, "cache"]
        browse.wait_for_clients(pipe, 1)
        pipe.emit(staged("cache", "late", "merge", hit="late"))
        expect(page.locator(".viz-name")).to_have_count(4)
        assert page.locator(".viz-name").all_text_contents() == ["merge", HOSTILE, "late", "cache"]

    app = make_app(pipe, token="right", title=HOSTILE, stages=["merge", HOSTILE, "cache"])
    async with serve(app) as url:
        await browse(script)


async def test_a_fault_in_a_page_of_ones_own_does_not_stop_what_comes(browse: Chromium) -> None:
    pipe = Pipe(capacity=20_000, client_capacity=20_000)
    app = make_app(pipe, token="right")

    @app.get("/own")
    async def own() -> str:  # noqa: ASYNC124 - Quart's interface
        return """<!doctype html><link rel="icon" href="/viz/icon.svg"><div id="pipeline"></div>
            <script type="module">
            import { showPipeline } from "/viz/embed.js";
            window.got = 0;
            const items = (told) => { got += told.length; throw new Error("mine"); };
            showPipeline(document.getElementById("pipeline"), { token: "right", items });
            </script>"""

    def script(page: Page) -> None:
        page.goto(url + "/own")
        browse.wait_for_clients(pipe, 1)
        for round_ in range(1, 5):  # more than a tab may leave untaken
            browse.in_trio(emit_at_once, pipe, 4000)
            page.wait_for_function("(count) => got === count", arg=round_ * 4000)

    async with serve(app) as url:
        await browse(script, quiet=False)


async def test_a_page_of_ones_own_is_told_how_long_the_server_may_be_silent(browse: Chromium) -> None:
    pipe = Pipe()
    app = make_app(pipe, token="right", heartbeat_interval=60)

    @app.get("/own")
    async def own() -> str:  # noqa: ASYNC124 - Quart's interface
        return """<!doctype html><link rel="icon" href="/viz/icon.svg"><div id="pipeline"></div>
            <script type="module" src="/own.js"></script>"""

    @app.get("/own.js")
    async def script_of_own() -> Response:  # noqa: ASYNC124 - Quart's interface
        return Response(
            """import { showPipeline } from "/viz/embed.js";
            window.states = [];
            const state = ({ name }) => states.push(name);
            showPipeline(document.getElementById("pipeline"), { token: "right", heartbeat: 60, state });""",
            content_type="text/javascript",
        )

    def script(page: Page) -> None:
        page.context.add_init_script(WITHOUT_WORKERS)  # the clock of this page is that of its hub
        page.add_init_script("requestAnimationFrame = null")  # as where nobody looks: nothing may wait for it
        page.clock.install()
        page.goto(url + "/own")
        browse.wait_for_clients(pipe, 1)
        page.clock.run_for(100_000)
        pipe.emit(staged("cache", hit="cache"))
        expect(page.locator(".viz-count")).to_have_text("1 answered")
        assert page.evaluate("states") == ["connecting", "live"]

    async with serve(app) as url:
        await browse(script)


@pytest.mark.parametrize("kind", ["text/plain", None])
def test_the_files_types_are_not_those_of_the_hosts_table(
    monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    def guess(_name: str) -> tuple[str | None, None]:
        return kind, None

    monkeypatch.setattr("mimetypes.guess_type", guess)
    types = {file.path: file.content_type for file in page_files("", [], 15)}
    assert types["dashboard.js"] == "text/javascript; charset=utf-8"
    assert types["style.css"] == "text/css; charset=utf-8"
    assert types["icon.svg"] == "image/svg+xml; charset=utf-8"
    assert types[""] == "text/html; charset=utf-8"


@pytest.mark.parametrize("stages", ["cache", [1, 2]])
def test_stages_that_are_no_sequence_of_names_are_refused(stages: Any) -> None:
    with pytest.raises(TypeError, match="stages must be a sequence of names"):
        viz_blueprint(Pipe(), token="right", stages=stages)


def test_all_files_together_weigh_less_than_100_kb() -> None:
    sizes = [len(file.read_bytes()) for file in files("vizpipe_trio").joinpath("dashboard").iterdir()]
    assert sum(sizes) < 100_000


async def test_a_search_in_the_example_runs_through_the_pipeline_on_its_own_page(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + "/?token=right")
        expect(page.locator("#connection")).to_have_text("connected")
        assert page.locator(".viz-name").all_text_contents() == [
            "policy",
            "cache",
            "semantic",
            "lookup",
            "vector",
            "merge",
        ]
        note_runs(page)
        page.get_by_role("button", name="for loop", exact=True).click()
        wait_for_run(page, "viz-marked")
        expect(page.locator("#events .mine")).to_have_count(1)
        expect(page.locator(".viz-stage", has_text="lookup").locator(".viz-count")).to_have_text("1 answered")
        page.get_by_role("button", name="for loop", exact=True).click()
        expect(page.locator(".viz-stage", has_text="cache").locator(".viz-count")).to_have_text("1 answered")
        page.get_by_role("link", name="Dashboard").click()
        expect(page.locator("#words")).to_have_text("Live")
        expect(page).to_have_url(url + "/viz/")

    async with serve(create_app(pipe, token="right")) as url:
        await browse(script)

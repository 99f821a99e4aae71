"""What the dashboard shows: the pipeline, the charts, the table, one event."""

import json
import random
import re
from datetime import UTC, datetime
from itertools import islice
from urllib.parse import unquote

import pytest
import trio
from browsing import HOSTILE, Chromium, note_runs, number, rows, staged, wait_for_run
from playwright.sync_api import Locator, Page, expect
from support import make_app, serve

from examples.docsearch import corpus
from examples.docsearch.pipeline import Pipeline
from examples.docsearch.stages import STAGES
from examples.docsearch.traffic import requests
from vizpipe_trio import Event, Pipe, StageInfo

VIZ = "/viz/?token=right"


def cells(page: Page) -> list[str]:
    return rows(page).first.locator("td").all_inner_texts()


def stage(page: Page, name: str) -> Locator:
    return page.locator(".viz-stage", has=page.get_by_text(name, exact=True))


async def test_an_event_is_a_row_of_the_table_and_the_newest_comes_first(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        expect(page.locator("#empty")).to_be_visible()
        stages = [StageInfo(1, "cache", 0.25), StageInfo(2, "vectors", 1.5, hit=True)]
        pipe.emit(
            Event(source="gate", subject="a", status="FILTERED", result_count=3, total_ms=1.75, stages=stages)
        )
        expect(rows(page)).to_have_count(1)
        assert cells(page)[1:] == ["FILTERED", "QUERY", "user", "gate", "a", "", "vectors", "3", "1.75 ms"]
        pipe.emit(Event(request_id="r2", op="WRITE", actor_type="agent"))
        expect(rows(page)).to_have_count(2)
        assert cells(page)[1:] == ["ALLOWED", "WRITE", "agent", "", "r2", "", "–", "0", "0 ms"]
        assert (number(page, "#seen"), number(page, "#missed-all")) == (2, 0)
        expect(page.locator("#empty")).to_be_hidden()

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def example_events() -> list[Event]:
    """Return a hundred events as the example makes them."""
    documents = corpus.load()
    pipeline = Pipeline(Pipe())  # which nobody watches
    await pipeline.load(documents)
    asked = (r.path for r in requests(documents, random.Random(1)) if r.method == "GET")
    queries = [unquote(path.partition("=")[2]) for path in islice(asked, 100)]
    events = [(await pipeline.search(query, "user")).event for query in queries]
    pipeline.close()
    return events


async def test_ten_thousand_events_are_counted_exactly_as_in_the_ledger(browse: Chromium) -> None:
    pipe = Pipe(10_000, client_capacity=10_000)  # a busy machine may keep the browser waiting
    events = await example_events() * 100
    hits = dict.fromkeys(STAGES, 0)
    for event in events:
        for place, info in enumerate(event.stages or ()):
            hits[STAGES[place]] += info.hit

    async def feed() -> None:
        for start in range(0, 10_000, 50):
            for event in events[start : start + 50]:
                pipe.emit(event)
            await trio.sleep(0.01)

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&window=600")
        browse.wait_for_clients(pipe, 1)
        browse.run_in_trio(feed)
        expect(page.locator("#seen")).to_have_text("10,000")
        ledger = pipe.statistics()
        assert (ledger.emitted, ledger.broadcast, ledger.delivered) == (10_000, 10_000, 10_000)
        assert (ledger.dropped, ledger.invalid, ledger.missed) == (0, 0, 0)
        assert number(page, "#missed-all") == 0
        for name, answered in hits.items():
            expect(stage(page, name).locator(".viz-count")).to_have_text(f"{answered:,} answered")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_each_stage_has_its_share_of_hits_and_of_time(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        for _ in range(3):
            pipe.emit(staged("cache", "lookup", hit="cache", ms=1))
        pipe.emit(staged("cache", "lookup", hit="lookup", ms=9))
        cache, lookup = stage(page, "cache"), stage(page, "lookup")
        expect(cache.locator(".viz-hits")).to_have_text("75.0%")
        expect(cache.locator(".viz-count")).to_have_text("3 answered")
        expect(lookup.locator(".viz-hits")).to_have_text("25.0%")
        expect(cache.locator(".viz-time")).to_have_text("50.0% of time")
        # Quantiles are within 5 %.
        assert 0.95 <= float(cache.locator(".viz-median").inner_text().removesuffix(" ms")) <= 1.05
        assert 8.55 <= float(cache.locator(".viz-p95").inner_text().removesuffix(" ms")) <= 9.45

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


@pytest.mark.parametrize("count", [6, 16])
async def test_the_pipeline_has_the_stages_that_the_events_have(browse: Chromium, count: int) -> None:
    pipe = Pipe()
    names = [f"stage {place}" for place in range(1, count + 1)]

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        expect(page.locator("#no-stages")).to_be_visible()
        pipe.emit(staged(*names, hit=names[-1]))
        expect(page.locator(".viz-stage")).to_have_count(count)
        assert page.locator(".viz-name").all_inner_texts() == names
        width = page.locator("#pipeline").evaluate("(e) => e.scrollWidth - e.clientWidth")
        assert width == 0

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_stages_without_number_are_bounded(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(staged(*[f"s{place}" for place in range(60)], hit="s59"))
        expect(page.locator(".viz-stage")).to_have_count(25)
        expect(stage(page, "(other stages)").locator(".viz-count")).to_have_text("1 answered")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_an_event_runs_and_the_stage_that_answered_lights_up(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        expect(page.locator(".viz-stage")).to_have_count(3)
        page.evaluate("""() => {
            window.lit = [];
            const { animate } = Element.prototype; // a glow is gone in less than a second
            Element.prototype.animate = function (...how) {
                if (this.matches(".viz-glow")) lit.push(this.closest("li").querySelector(".viz-name").innerText);
                return animate.apply(this, how);
            };
        }""")
        note_runs(page)
        pipe.emit(staged("gate", "cache", "lookup", hit="cache"))
        wait_for_run(page)
        expect(page.locator(".viz-run")).to_have_count(0)  # it has arrived
        assert page.evaluate("lit") == ["cache"]

    app = make_app(pipe, token="right", stages=["gate", "cache", "lookup"])
    async with serve(app) as url:
        await browse(script)


async def test_charts_say_rates_latencies_and_decisions(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        for status in ("ALLOWED", "ALLOWED", "ALLOWED", "FILTERED", "DENIED"):
            pipe.emit(Event(status=status, total_ms=10))
        shares = page.locator("[data-chart=decisions]")
        expect(shares.locator("[data-value=ALLOWED]")).to_have_text("60.0%")
        expect(shares.locator("[data-value=FILTERED]")).to_have_text("20.0%")
        expect(shares.locator("[data-value=DENIED]")).to_have_text("20.0%")
        expect(shares.locator("canvas")).to_have_accessible_name(
            "ALLOWED 60.0%, FILTERED 20.0%, DENIED 20.0%"
        )
        for quantile in ("p50", "p95", "p99"):
            expect(page.locator(f"[data-value={quantile}]")).to_have_text(
                "9.87 ms"
            )  # the middle of its bucket
        assert float(page.locator("[data-value=QUERY]").inner_text()) > 0
        expect(page.locator("[data-value=WRITE]")).to_have_text("0")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_charts_scale_is_not_cut(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.add_init_script("""window.leftmost = {};
            const draw = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
                leftmost[text] = x - (this.textAlign === "right" ? this.measureText(text).width : 0);
                draw.call(this, text, x, y);
            };""")
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(total_ms=0.002))
        page.wait_for_function("() => '0.001 ms' in leftmost")
        assert page.evaluate("Math.min(...Object.values(leftmost))") >= 0

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_rate_of_few_is_not_none(browse: Chromium) -> None:
    texts = "import('/viz/words.js').then(({ rate }) => [0, 1 / 600, 0.25, 5, 1234.5].map((one) => rate(one, false)))"

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        assert page.evaluate(texts) == ["0", "0.002", "0.25", "5.00", "1,235"]

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script)


async def test_a_chart_tells_single_moments_to_the_pointer_and_to_the_arrow_keys(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        figure = page.locator("[data-chart=rates]")
        expect(figure.locator("[data-value=QUERY]")).to_have_text("0")  # it is drawn
        figure.locator("canvas").hover()
        expect(figure.locator(".at")).to_contain_text("s ago")
        page.mouse.move(0, 0)
        expect(figure.locator(".at")).to_have_text("")
        figure.focus()
        page.keyboard.press("ArrowLeft")
        expect(figure.locator(".at")).to_have_text("0.5 s ago")
        page.keyboard.press("ArrowLeft")
        expect(figure.locator(".at")).to_have_text("1.0 s ago")
        for _ in range(60):
            page.keyboard.press("ArrowLeft")
        expect(figure.locator(".at")).to_have_text("30.0 s ago")
        expect(figure.locator("[data-value=QUERY]")).to_have_text("–")  # the page was not there yet
        page.keyboard.press("Escape")
        expect(figure.locator(".at")).to_have_text("")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_row_opens_the_whole_event_with_its_waterfall_and_its_json(browse: Chromium) -> None:
    pipe = Pipe()
    stages = [StageInfo(1, "cache", 2.0), StageInfo(2, "lookup", 6.0, hit=True)]
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    event = Event(moment, "r1", "gate", "QUERY", "cheese", "agent", "ALLOWED", ["a", "b"], 3, 10.0, stages)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(event)
        rows(page).first.click()
        detail = page.get_by_role("complementary", name="The chosen event")
        expect(detail.get_by_role("heading")).to_have_text("cheese")
        assert detail.locator("dl").inner_text().split("\n") == [
            "Time", "2026-01-01T00:00:00Z", "Request", "r1", "Source", "gate", "Op", "QUERY", "Actor", "agent",
            "Status", "ALLOWED", "Labels", "a, b", "Results", "3", "Total", "10.0 ms",
        ]  # fmt: skip
        bars = detail.locator(".waterfall li").evaluate_all("""(bars) => bars.map((bar) =>
            [bar.querySelector(".label").innerText.trim(), bar.querySelector(".value").innerText,
             bar.querySelector(".track").style.getPropertyValue("--from"),
             bar.querySelector(".track").style.getPropertyValue("--length")])""")
        assert bars == [
            ["cache", "2.00 ms", "0", "0.2"],
            ["lookup answered", "6.00 ms", "0.2", "0.6"],
            ["between stages", "2.00 ms", "0.8", "0.2"],
        ]
        detail.get_by_role("button", name="Copy as JSON").click()
        expect(detail.locator("[data-part=copied]")).to_have_text("Copied")
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert (copied["request_id"], copied["stages"][1]["ms"], copied["labels"]) == ("r1", 6.0, ["a", "b"])

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script, permissions=["clipboard-read", "clipboard-write"])


async def test_the_table_is_bounded_and_holds_still_under_the_pointer(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        page.get_by_role("button", name="Pause").click()  # or the last few might come by themselves
        browse.in_trio(lambda: [pipe.emit(Event(subject=f"e{index}")) for index in range(300)])
        expect(page.locator("#seen")).to_have_text("300")
        page.get_by_role("button", name="Resume").click()
        expect(rows(page)).to_have_count(40)  # of so many at once
        expect(rows(page).first).to_contain_text("e299")
        for index in range(300, 310):
            pipe.emit(Event(subject=f"e{index}"))
        expect(rows(page)).to_have_count(50)
        rows(page).nth(2).hover()
        pipe.emit(Event(subject="e310"))
        expect(page.locator("#tail-note")).to_have_text("Held while you are on it: 1 newer")
        expect(rows(page).first).to_contain_text("e309")
        page.mouse.move(0, 0)
        expect(rows(page).first).to_contain_text("e310")
        expect(page.locator("#tail-note")).to_have_text("")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


@pytest.mark.parametrize("count", [200, 1])
async def test_a_sample_is_said_to_be_one_from_the_beginning(browse: Chromium, count: int) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&window=600")
        browse.wait_for_clients(pipe, 1)
        for _ in range(count):
            pipe.emit(staged("cache", hit="cache"))
        expect(stage(page, "cache").locator(".viz-count")).to_have_text(f"{count} answered")
        expect(page.locator("#drawn")).to_have_text("A sample is drawn, all are counted" if count > 1 else "")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_no_time_between_stages_is_made_of_the_way_that_numbers_are_kept(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(
            Event(total_ms=0.8, stages=[StageInfo(1, "a", 0.7), StageInfo(2, "b", 0.1)])
        )  # 0.7999999999999999
        rows(page).locator("button").click()
        expect(page.locator(".waterfall li")).to_have_text(["a 0.70 ms", "b 0.10 ms"], use_inner_text=False)

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_look_at_a_moment_takes_nothing_from_what_is_counted(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.clock.install()
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event())
        page.clock.run_for(1000)
        denied = page.locator("[data-value=DENIED]")
        expect(denied).to_have_text("0%")
        page.get_by_role("button", name="Pause").dispatch_event("click")
        page.clock.run_for(1000)  # into another slot than that of the last drawing
        for _ in range(3):
            pipe.emit(Event(status="DENIED"))
        expect(page.locator("#seen")).to_have_text("4")
        page.locator("[data-chart=decisions] canvas").hover()
        expect(page.locator("[data-chart=decisions] .at")).to_contain_text("earlier")
        page.emulate_media(color_scheme="dark")
        pipe.emit(Event())
        expect(page.locator("#seen")).to_have_text("5")
        page.mouse.move(0, 0)
        page.get_by_role("button", name="Resume").dispatch_event("click")
        expect(denied).to_have_text("60.0%")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script, color_scheme="light")


async def test_a_latency_of_more_than_a_day_is_a_lower_bound(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        p50 = page.locator("[data-value=p50]")
        pipe.emit(Event(total_ms=3_600_000))
        expect(p50).to_have_text(re.compile(r"^3[4-7]\d\d\.\d s$"))  # within 5 %
        for _ in range(2):
            pipe.emit(staged("slow", ms=1e300))
        expect(p50).to_have_text("≥ 93124.0 s")
        expect(stage(page, "slow").locator(".viz-median")).to_have_text("≥ 93124.0 s")
        pipe.emit(staged("slow", ms=1.7e308))
        expect(stage(page, "slow").locator(".viz-time")).to_have_text("100% of time")
        pipe.emit(staged("slow", ms=1.7e308))  # the sum is no number any more
        expect(stage(page, "slow").locator(".viz-time")).to_have_text("– of time")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_the_table_goes_on_after_an_event_was_looked_at_with_the_mouse(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event())
        rows(page).first.click()
        page.get_by_role("button", name="Close").click()
        page.mouse.move(0, 0)
        pipe.emit(Event(subject="newer"))
        expect(rows(page).first).to_contain_text("newer")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_text_that_is_selected_elsewhere_keeps_no_row_from_opening(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="first"))
        pipe.emit(Event(subject="second"))
        expect(rows(page)).to_have_count(2)
        rows(page).first.click()
        page.evaluate("getSelection().selectAllChildren(document.querySelector('#detail dl'))")
        rows(page).last.locator("button").dispatch_event("click")  # as Enter does, which leaves the selection
        expect(page.locator("#detail h2")).to_have_text("first")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('#events tr'))")
        rows(page).first.dispatch_event("click")  # at the end of selecting in it
        expect(page.locator("#detail h2")).to_have_text("first")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_hostile_text_is_shown_as_text(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        stages = [StageInfo(-1, "", -1e308), StageInfo(2, HOSTILE, 1e308, hit=True)]
        moment = datetime(9999, 12, 31, tzinfo=UTC)
        pipe.emit(
            Event(moment, HOSTILE, HOSTILE, subject=HOSTILE, labels=[HOSTILE], total_ms=-1, stages=stages)
        )
        expect(rows(page)).to_have_count(1)
        assert rows(page).locator("td").all_text_contents().count(HOSTILE) == 3
        rows(page).first.click()
        expect(page.locator("#detail h2")).to_have_text(HOSTILE)
        expect(page.locator(".viz-name")).to_have_text(["", HOSTILE])
        note_runs(page)
        pipe.emit(Event(stages=stages))  # now that its stages are there, it runs
        wait_for_run(page)
        assert page.locator("img, body script, #events script").count() == 0
        expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)

    async with serve(make_app(pipe, token="right", title=HOSTILE)) as url:
        await browse(script)

"""Whether everybody can use the dashboard: an audit, the keyboard, small and large screens, motion, colours."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from browsing import Chromium, emit_at_once, rows, staged
from playwright.sync_api import Page, expect
from support import make_app, serve

from vizpipe_trio import Event, Pipe

VIZ = "/viz/?token=right"
CACHE = Path(__file__).parent.parent / ".cache"
AXE = CACHE / "axe.min.js"
STAGES = ["policy", "cache", "semantic", "lookup", "vector", "merge"]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the source of axe-core, which npm brings."""
    npm = shutil.which("npm")
    if npm is None and not AXE.exists():
        if os.environ.get("CI"):
            pytest.fail("the audit needs npm on the PATH")
        pytest.skip("there is no npm on the PATH")
    if not AXE.exists():
        folder = tmp_path_factory.mktemp("axe")
        command = [
            str(npm),
            "install",
            "--prefix",
            str(folder),
            "--no-save",
            "--no-audit",
            "--silent",
            "axe-core@4",
        ]
        subprocess.run(command, check=True, timeout=120)  # noqa: S603 - our own command
        CACHE.mkdir(exist_ok=True)
        # It is there as a whole or not at all: another suite may look for it in this moment.
        copy = CACHE / f"axe-{os.getpid()}"
        shutil.copy(folder / "node_modules" / "axe-core" / AXE.name, copy)
        copy.replace(AXE)
    return AXE.read_text()


def violations(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    result: dict[str, Any] = page.evaluate("(values) => axe.run({ runOnly: { type: 'tag', values } })", tags)
    assert len(result["passes"]) > 20
    return [
        f"{v['id']}: {node['html']} {node['failureSummary']}"
        for v in result["violations"]
        for node in v["nodes"]
    ]


def burst(pipe: Pipe) -> None:
    statuses = ("ALLOWED", "FILTERED", "DENIED")
    for index in range(12):
        pipe.emit(
            staged(
                *STAGES, hit=STAGES[index % 6], subject=f"e{index}", status=statuses[index % 3], labels=["a"]
            )
        )


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1440)])
async def test_an_audit_finds_nothing(browse: Chromium, axe: str, scheme: str, width: int) -> None:
    pipe = Pipe(capacity=10)

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        assert violations(page, axe) == []  # while it is empty
        browse.in_trio(burst, pipe)
        expect(page.locator(".gap")).to_have_count(1)
        if width == 360:
            page.get_by_role("button", name="Filters").click()
        page.locator("#view").get_by_role("checkbox", name="DENIED").check()
        expect(page.locator("#words")).to_have_text("Live")
        browse.in_trio(burst, pipe)
        expect(page.locator("td.status[data-status=DENIED]").first).to_be_visible()
        expect(page.locator(".viz-run")).to_have_count(0)
        assert violations(page, axe) == []
        rows(page).locator("button").first.click()
        expect(page.locator("#detail")).to_be_visible()
        page.get_by_role("button", name="Pause").click()
        assert violations(page, axe) == []

    async with serve(make_app(pipe, token="right", stages=STAGES)) as url:
        await browse(script, color_scheme=scheme, viewport={"width": width, "height": 900})


async def test_an_audit_finds_nothing_when_it_is_refused(browse: Chromium, axe: str) -> None:
    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        expect(page.locator("#token")).to_be_visible()
        assert violations(page, axe) == []

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script)


async def test_all_of_it_works_by_keyboard(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        for index in range(3):
            pipe.emit(Event(subject=f"e{index}"))
        expect(rows(page)).to_have_count(3)
        page.get_by_role("button", name="Pause").focus()
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('tbody') !== null"):
                break
        focused = page.locator(":focus")
        expect(focused).to_have_text("e2")  # one stop for the whole table,
        page.keyboard.press("ArrowDown")  # and the arrows from there
        expect(focused).to_have_text("e1")
        pipe.emit(Event(subject="e3"))
        expect(page.locator("#tail-note")).to_contain_text("1 newer")
        page.keyboard.press("Enter")
        expect(page.locator("#detail h2")).to_be_focused()
        expect(page.locator("#detail h2")).to_have_text("e1")
        page.keyboard.press("Escape")
        expect(page.locator("#detail")).to_be_hidden()
        expect(focused).to_have_text("e1")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_the_live_region_speaks_of_changes_and_not_of_events(browse: Chromium) -> None:
    pipe = Pipe(capacity=2)

    def script(page: Page) -> None:
        page.add_init_script("""window.said = [];
            document.addEventListener("DOMContentLoaded", () => new MutationObserver(() =>
                said.push(document.getElementById("announced").textContent)
            ).observe(document.getElementById("announced"), { childList: true, characterData: true, subtree: true }));
        """)
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        expect(page.locator("#words")).to_have_text("Live")
        for repeat in range(3):
            browse.in_trio(emit_at_once, pipe, 5)
            expect(page.locator("#missed-all")).to_have_text(str(3 * (repeat + 1)))
        said = page.evaluate("said")
        assert len(said) <= 3
        assert [words for words in said if words not in {"Connecting…", "Live"}] == ["3 events missed so far"]

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_loss_of_unknown_size_is_no_loss_of_none_for_the_ear(browse: Chromium) -> None:
    pipe = Pipe(capacity=2)

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&op=QUERY")
        browse.wait_for_clients(pipe, 1)
        browse.in_trio(emit_at_once, pipe, 5)  # how many a filter would let through is unknown
        expect(page.locator("#announced")).to_have_text("Some events missed so far")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_the_stage_that_answered_is_named_by_a_word_also_beside_a_long_name(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(staged("hybrid search over all the documents", hit="hybrid search over all the documents"))
        rows(page).locator("button").click()
        word, label = (
            page.locator(".waterfall em").bounding_box(),
            page.locator(".waterfall .label").bounding_box(),
        )
        assert word is not None
        assert label is not None
        assert word["x"] + word["width"] <= label["x"] + label["width"]

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script)


async def test_a_long_filter_fits_a_phone(browse: Chromium) -> None:
    def script(page: Page) -> None:
        page.goto(url + VIZ + "&source=" + "source" * 20 + "&text=" + "text" * 40)
        page.get_by_role("button", name="Filters").click()
        expect(page.locator("#tail-note")).to_contain_text("Those with")
        assert page.evaluate("document.documentElement.scrollWidth") == 360

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script, viewport={"width": 360, "height": 740})


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
async def test_it_fits_every_width(browse: Chromium, width: int) -> None:
    pipe = Pipe()
    names = [f"a stage with a long name {place}" for place in range(1, 17)]

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(
            staged(*names, hit=names[3], subject="word" * 100, source="source" * 20, labels=["label" * 30])
        )
        expect(rows(page)).to_have_count(1)
        rows(page).locator("button").click()
        expect(page.locator("#detail")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for part in (
            page.locator("header").first,
            page.locator("#pause"),
            page.locator("#detail"),
            page.locator("#tail"),
        ):
            box = part.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script, viewport={"width": width, "height": 900})


async def test_the_head_and_the_times_fit_a_phone(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ + "&op=QUERY&label=a")
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(datetime(2026, 1, 1, 20, 48, 40, 888000, tzinfo=UTC), labels=["a"]))
        expect(rows(page)).to_have_count(1)
        height = "(element) => element.offsetHeight"
        button = page.locator("#pause").evaluate(height)
        assert page.locator("#window").evaluate(height) <= button + 2  # in one row
        # To the fraction of a pixel, from which on there is an ellipsis.
        assert page.locator("td.time").evaluate("""(cell) => {
            const text = document.createRange();
            text.selectNodeContents(cell);
            const room = cell.getBoundingClientRect().width - parseFloat(getComputedStyle(cell).paddingRight);
            return text.getBoundingClientRect().width <= room;
        }""")

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script, viewport={"width": 360, "height": 780})


async def test_a_gap_leaves_the_tables_columns_as_they_are(browse: Chromium) -> None:
    pipe = Pipe(capacity=2)

    def script(page: Page) -> None:
        def edges() -> list[list[int]]:
            found: list[list[int]] = []
            for width in (360, 1100):  # some columns are not there
                page.set_viewport_size({"width": width, "height": 900})
                found += page.locator("th:visible").evaluate_all(
                    "(all) => all.map((th) => [th.offsetLeft, th.offsetWidth])"
                )
            return found

        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(Event(subject="first"))
        rows(page).locator("button").click()
        page.mouse.move(0, 0)
        before = edges()
        browse.in_trio(emit_at_once, pipe, 5)
        pipe.emit(Event())
        expect(page.locator(".gap")).to_have_count(1)
        assert edges() == before

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script, viewport={"width": 1100, "height": 900})


async def test_a_long_title_leaves_the_head_in_one_row(browse: Chromium) -> None:
    def script(page: Page) -> None:
        page.goto(url + VIZ)
        expect(page.locator("#words")).to_have_text("Live")
        height = page.locator("body > header").evaluate("(head) => head.offsetHeight")
        page.locator("h1").evaluate("(title) => title.textContent = 'Search gateway '.repeat(9)")
        assert page.locator("body > header").evaluate("(head) => head.offsetHeight") == height

    async with serve(make_app(Pipe(), token="right", title="Search")) as url:
        await browse(script, viewport={"width": 1100, "height": 800})


async def test_what_is_drawn_stands_out_from_the_ground(browse: Chromium) -> None:
    # WCAG 2.2, 1.4.11: 3:1. Between two parts of a bar is a line of the ground's colour.
    contrasts = """() => {
        const light = (name) => {
            document.body.style.color = `var(--${name})`;
            const parts = getComputedStyle(document.body).color.match(/[0-9.]+/g).map((part) => part / 255);
            const [r, g, b] = parts.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const ratio = (one, other) => Math.max(light(one) / light(other), light(other) / light(one));
        return ["accent", "second", "soft", "warn", "bad"].map((name) => ratio(name, "surface"));
    }"""

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert min(page.evaluate(contrasts)) >= 3

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script)


async def test_where_colours_are_forced_what_they_say_is_still_to_be_seen(browse: Chromium) -> None:
    pipe = Pipe()
    look = """() => [".viz-number", ".viz-bar", ".viz-track", ".bar", ".choice input:checked + span",
        ".choice input:not(:checked) + span", ".hit .track::after", ".track"].map((selector) => {
            const [element, after] = selector.split("::");
            const { backgroundColor, backgroundImage } = getComputedStyle(document.querySelector(element), after && "::after");
            return backgroundImage === "none" ? backgroundColor : "an image";
        })"""

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(staged("cache", "lookup", hit="lookup"))
        rows(page).first.click()
        expect(page.locator(".viz-stage")).to_have_count(2)
        *pictures, chosen, other, answer, ground = page.evaluate(look)
        assert pictures == ["an image"] * 4
        assert chosen != other
        assert answer != ground

    async with serve(make_app(pipe, token="right")) as url:
        await browse(script, forced_colors="active")


async def test_nothing_moves_where_less_motion_is_asked_for(browse: Chromium) -> None:
    pipe = Pipe()

    def script(page: Page) -> None:
        page.goto(url + VIZ)
        browse.wait_for_clients(pipe, 1)
        pipe.emit(staged("cache", "lookup", hit="lookup"))
        expect(page.locator(".viz-last .viz-name")).to_have_text("lookup")
        assert page.evaluate("document.getAnimations().length") == 0
        assert page.locator(".viz-run").count() == 0

    async with serve(make_app(pipe, token="right", stages=["cache", "lookup"])) as url:
        await browse(script, reduced_motion="reduce")


async def test_colours_follow_the_systems_scheme(browse: Chromium) -> None:
    def script(page: Page) -> None:
        page.goto(url + VIZ)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 20)"
        page.emulate_media(color_scheme="light")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(244, 246, 248)"

    async with serve(make_app(Pipe(), token="right")) as url:
        await browse(script, color_scheme="dark")

"""The documentation: what its pages show is so, and nothing public is missing in it."""

import re
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browsing import Chromium, rows
from pages import (
    LANGUAGES,
    PAGES,
    ROOT,
    extras,
    get,
    known_extras,
    languages,
    namespace_of,
    parse,
    run_pytest,
    visible_blocks,
)
from playwright.sync_api import Page, expect
from support import serve

MODULES = sorted(
    "vizpipe_trio" if path.stem == "__init__" else f"vizpipe_trio.{path.stem}"
    for path in (ROOT / "vizpipe_trio").glob("*.py")
    if not path.stem.startswith("_") or path.stem == "__init__"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_shows_runs_and_does_what_it_says(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIZ_TOKEN", "sesame")
    said = [""]

    def printed() -> str:
        said[0] += capsys.readouterr().out
        return said[0]

    def in_modules(name: str, **contents: Any) -> None:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**contents))

    document = parse(page)
    document.namespace.update(
        namespace_of(
            document,
            printed=printed,
            get=get,
            in_modules=in_modules,
            run_pytest=partial(run_pytest, tmp_path),
        )
    )
    for example in document.examples():
        example.evaluate()


async def test_the_dashboard_of_the_tutorials_app_shows_what_its_picture_does(browse: Chromium) -> None:
    defined: dict[str, Any] = {"__name__": "app"}
    exec(visible_blocks(parse(ROOT / "docs" / "tutorial.md"))["python"][0], defined)  # noqa: S102 - our own
    async with serve(defined["app"]) as address:

        def look(page: Page) -> None:
            page.goto(f"{address}/viz/")
            expect(page.locator("#words")).to_have_text("Live")
            for _ in range(2):
                browse.run_in_trio(get, f"{address}/search/loops")
            expect(rows(page)).to_have_count(2)
            expect(rows(page).first).to_contain_text("cache")
            expect(rows(page).last).to_contain_text("lookup")

        await browse(look)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_blocks_of_known_languages_and_names_extras_that_there_are(page: Path) -> None:
    assert languages(page) <= LANGUAGES
    assert extras(page) <= known_extras()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_are_no_wider_than_the_code(page: Path) -> None:
    lines = "\n".join(visible_blocks(parse(page))["python"]).splitlines()
    assert max(map(len, lines), default=0) <= 110


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    page = ROOT / "docs" / "api" / f"{module.partition('.')[2] or 'core'}.rst"
    if module == "vizpipe_trio.pytest_plugin":
        page = page.with_name("testing.rst")
    text = page.read_text()
    if f".. automodule:: {module}\n   :no-members:" in text or f".. automodule:: {module}" not in text:
        for name in import_module(module).__all__:
            assert re.search(
                rf"^\.\. (auto|py:)\w+:: {name}(\(\))?$|`vizpipe_trio\.{name}`", text, re.MULTILINE
            ), name

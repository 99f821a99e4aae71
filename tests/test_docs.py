"""The documentation: what its pages show is so, and nothing public is missing in it."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
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
            run_pytest=lambda files, outcome: run_pytest(tmp_path, files, outcome),
        )
    )
    for example in document.examples():
        example.evaluate()


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
            assert re.search(rf"^\.\. (auto|py:)\w+:: {name}(\(\))?$|`vizpipe_trio\.{name}`", text, re.MULTILINE), name

"""What the tests of the documentation share: a page, and how what it shows is run.

A page's Python blocks are run from top to bottom, in one namespace, by Sybil. What a block needs, and
what shows that it did what the page says, is in HTML comments beside it, which no reader sees:

    <!-- invisible-code-block: python
    assert printed() == "r1 cache True\n"
    -->
"""

import re
import shlex
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx  # noqa: ASYNC127 - a client that is not ours
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from vizpipe_trio import _cli

ROOT = Path(__file__).parent.parent

PAGES = sorted([*ROOT.glob("[!.]*.md"), *(ROOT / "docs").rglob("*.md")])

LANGUAGES = {"python", "console", "text", "nginx", "html"}


def parse(page: Path) -> Document:
    """Return a page with its blocks of code."""
    return Document.parse(
        str(page),
        PythonCodeBlockParser(),
        CodeBlockParser("console", check_console),
        CodeBlockParser("text", lambda _: None),
    )


def visible_blocks(document: Document) -> dict[str, list[str]]:
    """Return the blocks that a reader sees, by language."""
    blocks: dict[str, list[str]] = defaultdict(list)
    for _, region in document.regions:
        fence = document.text[region.start :].partition("\n")[0]
        if fence.startswith("```"):
            blocks[fence.strip("`")].append(str(region.parsed))
    return blocks


def languages(page: Path) -> set[str]:
    """Return the languages of a page's blocks, Sphinx's directives left out."""
    fences: list[str] = re.findall(r"^(```+[^\n]*)\n.*?^```+$", page.read_text(), re.DOTALL | re.MULTILINE)
    return {fence.strip("`") for fence in fences if "{" not in fence}


def check_console(example: Example) -> None:
    """Find a console block's commands, as far as they are ours, and their options."""
    for command, _ in commands(str(example.parsed)):
        check_command(command)


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and what it printed."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def check_command(command: str) -> None:
    """Look whether a command of ours is there, with its options; see `extras` for pip's."""
    name, *arguments = shlex.split(command, comments=True)
    if name == "make":
        target = arguments[0].replace(".venv", "$(VENV)")
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(), command
    elif name == "vizpipe":
        _cli._parser().parse_args(arguments)


def extras(page: Path) -> set[str]:
    """Return the extras of ours that a page tells to install."""
    chosen = re.findall(r"vizpipe-trio\[([\w,]+)\]", page.read_text())
    return {name for names in chosen for name in names.split(",")}


def known_extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return set(project["project"]["optional-dependencies"])


async def get(address: str) -> httpx.Response:
    """Ask a server that a page has set up."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(address)


def run_pytest(folder: Path, files: dict[str, str], outcome: str) -> None:
    """Run tests that a page shows, as its reader does, in a directory with these files."""
    for name, text in files.items():
        (folder / name).write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        check=False, capture_output=True, text=True, timeout=150, cwd=folder,
    )  # fmt: skip
    assert outcome in run.stdout, run.stdout + run.stderr


def table(page: str, name: str) -> list[list[str]]:
    """Return the rows below the head of the table that a comment names."""
    text = (ROOT / "docs" / page).read_text()
    match = re.search(rf"<!-- {name} -->\n\|.*\n\|.*\n((?:\|.*\n)+)", text)
    assert match is not None, name
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in match[1].splitlines()]


def code(cell: str) -> str:
    """Return what a table's cell says, without the marks of code."""
    return cell.strip("`")


def namespace_of(document: Document, **others: Any) -> dict[str, Any]:
    """Return what a page's blocks find, hidden or not."""
    blocks = visible_blocks(document)
    consoles = [pair for block in blocks["console"] for pair in commands(block)]
    return {
        "__name__": "page",
        "blocks": blocks,
        "snippets": blocks["python"],
        "consoles": consoles,
        **others,
    }

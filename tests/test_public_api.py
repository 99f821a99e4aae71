"""What users rely on changes only on purpose, and is told to them.

Two files: docs/api.txt is what the API is now, written by `make api`, so that each change of it is seen in a
review; docs/api-released.txt is what it was at the last release, written by `make release`. What differs
between the two, names that came, went, or are called otherwise, has to stand in the changelog under
Unreleased, in backticks.
"""

from pathlib import Path

import pytest
from public_api import NOW, RELEASED, ROOT, changed, describe, untold

import vizpipe_trio

BEFORE = [
    "class p.Pipe(capacity: int)",
    "def p.Pipe.emit(event: Event) -> bool",
    "p.Pipe.size: int",
    "def p.serve(pipe: Pipe) -> None",
]


def lines(text: str) -> list[str]:
    return text.replace("p.", "vizpipe_trio.").splitlines()


def test_the_api_is_the_one_that_is_written_down() -> None:
    assert describe() == NOW.read_text().splitlines(), "the API has changed; if it should: make api"


def test_what_changed_since_the_last_release_is_told_under_unreleased() -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text().split("\n## [")[1]
    assert unreleased.startswith("Unreleased]")
    differ = changed(RELEASED.read_text().splitlines(), NOW.read_text().splitlines())
    assert untold(differ, unreleased) == []


def test_every_public_module_says_what_is_public_in_it() -> None:
    modules = {path.stem for path in Path(vizpipe_trio.__file__).parent.glob("[!_]*.py")}
    described = {
        line.partition("vizpipe_trio.")[2].partition(".")[0] for line in NOW.read_text().splitlines()
    }
    assert modules <= described
    assert "emit" not in described


@pytest.mark.parametrize(
    ("after", "names"),
    [
        ([], []),
        (["def p.Pipe.emit(event: Event, wait: bool) -> bool"], ["p.Pipe.emit"]),
        (["async def p.serve(pipe: Pipe) -> None"], ["p.serve"]),
        (["def p.Pipe.stop() -> None"], ["p.Pipe.stop"]),
        (["class p.New()", "def p.New.emit() -> None"], ["p.New"]),
    ],
)
def test_what_came_or_is_called_otherwise_has_changed(after: list[str], names: list[str]) -> None:
    before = lines("\n".join(BEFORE))
    replaced = {line.split("(")[0].split()[-1] for line in lines("\n".join(after))}
    kept = [line for line in before if line.split("(")[0].split()[-1] not in replaced]
    assert changed(before, kept + lines("\n".join(after))) == lines("\n".join(names))


def test_what_went_has_changed_and_a_class_stands_for_its_members() -> None:
    before = lines("\n".join(BEFORE))
    assert changed(before, before[:3]) == ["vizpipe_trio.serve"]
    assert changed(before, before[3:]) == ["vizpipe_trio.Pipe"]


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ("- `Pipe.emit` takes bytes.", True),
        ("- `vizpipe_trio.Pipe.emit(event)` takes bytes.", True),
        ("- `emit` takes bytes.", False),
        ("- Pipe.emit takes bytes.", False),
        ("- `Pipe` takes bytes.", False),
        ("- `SubPipe.emit` takes bytes.", False),
        ("- `Pipe.emitter` takes bytes.", False),
    ],
)
def test_a_method_is_told_by_its_own_name_in_backticks(notes: str, told: bool) -> None:
    assert (untold(["vizpipe_trio.Pipe.emit"], notes) == []) is told


def test_the_description_has_what_a_caller_must_know(tmp_path: Path) -> None:
    package = tmp_path / "vizpipe_trio"
    package.mkdir()
    package.joinpath("__init__.py").write_text("""
from typing import Self
from msgspec import Struct

__all__ = ["Given", "Point", "run"]

class _Base:
    def close(self) -> None: ...

class Given(_Base):
    \"\"\"Made by `run`.\"\"\"
    def __init__(self, secret: int) -> None:
        self.size: int = secret
        self._secret = secret
    def __enter__(self) -> Self: ...
    @property
    def left(self) -> int: ...

class Point(Struct):
    x: int
    y: int = 0

async def run(*, fast: bool = True) -> Given: ...
def private() -> None: ...
""")
    assert describe(tmp_path) == [
        "class vizpipe_trio.Given(...) is a _Base",
        "def vizpipe_trio.Given.__enter__() -> Self",
        "def vizpipe_trio.Given.close() -> None",
        "vizpipe_trio.Given.left: int (read only)",
        "vizpipe_trio.Given.size: int",
        "class vizpipe_trio.Point(x, y) is a Struct",
        "vizpipe_trio.Point.x: int",
        "vizpipe_trio.Point.y: int = 0",
        "async def vizpipe_trio.run(*, fast: bool = True) -> Given",
    ]

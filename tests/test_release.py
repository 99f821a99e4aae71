"""The steps of docs/releasing.md that change files, in a copy of them."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from packaging_tools import ROOT, run


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a directory with what a release changes; its changelog is a short one."""
    for name in ("Makefile", "pyproject.toml", "docs/api.txt", "vizpipe_trio/_version.py"):
        tmp_path.joinpath(name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    head, _, _ = (ROOT / "CHANGELOG.md").read_text().partition("## [Unreleased]")
    tmp_path.joinpath("CHANGELOG.md").write_text(
        head
        + "## [Unreleased]\n\n### Fixed\n\n- `Pipe.emit` takes what\n  [others](docs/a.md) give.\n- More.\n"
    )
    return tmp_path


def make(copy: Path, *arguments: str) -> str:
    """Run make, with what is installed for this suite."""
    here = f"VENV={sys.prefix}"
    return run("make", "-s", "-o", f"{sys.prefix}/.test", *arguments, here, cwd=copy).stdout


def test_a_release_is_the_unreleased_with_a_version_a_date_and_the_api(copy: Path) -> None:
    make(copy, "release", "VERSION=7.8.9")
    changelog = (copy / "CHANGELOG.md").read_text()
    assert re.search(
        r"## \[Unreleased\]\n\n## \[7\.8\.9\] - \d{4}-\d\d-\d\d\n\n### Fixed\n\n- `Pipe", changelog
    )
    assert (copy / "vizpipe_trio/_version.py").read_text() == '__version__ = "7.8.9"\n'
    assert (copy / "docs/api-released.txt").read_text() == (copy / "docs/api.txt").read_text()


def test_a_release_without_a_version_changes_nothing(copy: Path) -> None:
    before = (copy / "CHANGELOG.md").read_text()
    with pytest.raises(AssertionError, match=r"Which one\? VERSION=1\.0\.0"):
        make(copy, "release")
    assert (copy / "CHANGELOG.md").read_text() == before


def test_the_notes_of_a_release_are_its_part_of_the_changelog(copy: Path) -> None:
    make(copy, "release", "VERSION=7.8.9")
    notes = make(copy, "release-notes", "VERSION=7.8.9")
    assert notes.strip() == "### Fixed\n- `Pipe.emit` takes what\n  [others](docs/a.md) give.\n- More."


def test_what_the_changelog_says_now_can_be_released(copy: Path) -> None:
    shutil.copy(ROOT / "CHANGELOG.md", copy)
    make(copy, "release", "VERSION=700.0.0")
    notes = make(copy, "release-notes", "VERSION=700.0.0")
    unreleased = (ROOT / "CHANGELOG.md").read_text().split("\n## [")[1]
    for line in unreleased.splitlines()[1:]:
        assert line in notes


def test_the_document_names_the_commands_that_there_are() -> None:
    document = (ROOT / "docs" / "releasing.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^ *\$ make ([\w-]+)", document, re.MULTILINE)
    assert {"release", "release-notes"} <= set(targets)
    for target in targets:
        assert f"\n{target}:" in makefile, target

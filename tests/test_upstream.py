"""What is wrong below us: each defect by its own program, with and without the fix that we propose.

docs/upstream.md tells of each. When a test here fails because of a new release, see there what of ours is not
needed any more.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "upstream"
DEFECTS = sorted(program.stem for program in FOLDER.glob("*.py"))

Runs = dict[tuple[str, bool], "Future[subprocess.CompletedProcess[str]]"]


def reproduce(defect: str, python_path: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, FOLDER / f"{defect}.py"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": python_path},
    )


def mended(defect: str, folder: Path) -> str:
    """Return a folder with a copy of Hypercorn in it, to which a defect's fix is applied."""
    spec = find_spec("hypercorn")
    assert spec is not None
    assert spec.origin is not None
    copytree(Path(spec.origin).parent, folder / "src" / "hypercorn")
    command = ["git", "apply", "--include=src/*", str(FOLDER / f"{defect}.diff")]  # and not its tests
    subprocess.run(command, check=True, cwd=folder)  # noqa: S603 - our own diff
    return str(folder / "src")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All programs, with and without their fixes: each of them mostly waits, so together."""
    with ThreadPoolExecutor(4) as threads:
        yield {
            (defect, fixed): threads.submit(
                reproduce, defect, mended(defect, tmp_path_factory.mktemp(defect)) if fixed else ""
            )
            for fixed in (False, True)
            for defect in DEFECTS
        }


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_defect_is_still_there(defect: str, runs: Runs) -> None:
    outcome = runs[defect, False].result()
    assert (outcome.returncode, outcome.stderr) == (1, ""), outcome.stdout


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_fix_that_we_propose_mends_it(defect: str, runs: Runs) -> None:
    outcome = runs[defect, True].result()
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome.stdout

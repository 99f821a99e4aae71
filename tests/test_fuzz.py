"""What fuzzers start from and what they once found, and a short search for more."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORPUS = sorted((ROOT / "fuzz" / "corpus").glob("*/*"))

sys.path.insert(0, str(ROOT))
from fuzz.targets import TARGETS  # noqa: E402


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_is_known_breaks_no_promise(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_search_finds_nothing_that_breaks_a_promise(target: str, tmp_path: Path) -> None:
    """A long one: make fuzz."""
    if find_spec("atheris") is None and not os.environ.get("CI"):
        pytest.skip("atheris has no wheel for this system")
    outcome = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "fuzz", target, "-runs=1500", "-seed=1", "-timeout=150"],
        check=False, capture_output=True, text=True, timeout=150, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "Done" in outcome.stderr

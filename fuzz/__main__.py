"""Search for bytes that break a promise, led by which code they reach: ``python -m fuzz TARGET [OPTIONS]``.

The options are libFuzzer's, such as ``-max_total_time=60`` in seconds. It starts from the corpus, and what
it finds goes into ``.fuzz/``: put it into the corpus when it is mended, where the test suite runs it.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

atheris: Any = import_module("atheris")  # which has no types

with atheris.instrument_imports(include=["vizpipe_trio"]):
    from fuzz.targets import TARGETS

HERE = Path(__file__).parent


def main() -> None:
    """Fuzz one target until the time is over or a promise is broken."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.exit(f"{__doc__}\nTargets: {', '.join(TARGETS)}")
    found = Path(".fuzz") / name
    found.mkdir(parents=True, exist_ok=True)
    # What is new goes into the first of these.
    folders = [str(found), str(HERE / "corpus" / name)]
    atheris.Setup([sys.argv[0], f"-artifact_prefix={found}/broken-", *options, *folders], TARGETS[name])
    atheris.Fuzz()


main()

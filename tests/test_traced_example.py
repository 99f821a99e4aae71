"""The example with OpenTelemetry, run by hand."""

import re
import subprocess
import sys


def test_traced_work_is_shown_by_its_spans_and_other_work_by_the_decorator() -> None:
    command = [sys.executable, "-m", "examples.traced", "2"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=150)  # noqa: S603 - ours
    assert (done.returncode, done.stderr) == (0, "")
    assert re.sub(r"[\d.]+ ms", "_ ms", done.stdout).splitlines() == [
        "thumbnails QUERY 1.png: _ ms read scale store*",
        "thumbnails QUERY 2.png: _ ms read scale store*",
        "thumbnails WRITE sweep: _ ms",
    ]

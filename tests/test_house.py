"""Promises about the package as a whole: what it imports, and what its README says."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.report import markdown

ROOT = Path(__file__).parent.parent


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        check=False, capture_output=True, text=True, timeout=150, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


def test_the_package_alone_imports_trio_and_msgspec_and_nothing_else() -> None:
    outcome = python(
        "import sys, trio, msgspec; before = set(sys.modules); import vizpipe_trio;"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    assert outcome.stdout.split() == ["vizpipe_trio"], outcome.stderr


def test_importing_takes_hardly_longer_than_trio_and_msgspec_do(tmp_path: Path) -> None:
    """In this order the second import is all ours: what it adds must be under 0.3 of the first.

    In the processor's time: others use the machine meanwhile. And compiled, as a user has it after
    the first import: an environment that keeps no bytecode would have only ours compiled each time.
    """
    ratios: list[float] = []
    for _ in range(8):
        outcome = python(
            "from time import process_time as now; a = now(); import trio, msgspec; b = now();"
            "import vizpipe_trio; print((now() - a) / (b - a))",
            PYTHONDONTWRITEBYTECODE="",
            PYTHONPYCACHEPREFIX=str(tmp_path),
        )
        ratios.append(float(outcome.stdout))
    assert statistics.median(ratios[1:]) <= 1.3


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_first_snippet_of_the_readme_prints_what_it_says() -> None:
    outcome = python(snippets("python")[0])
    assert (outcome.stdout, outcome.stderr) == ("r1 cache True\n", "")


def test_the_app_of_the_readme_streams_what_its_handler_emits() -> None:
    client = """
import json, trio

async def main():
    async with app.test_app(), app.test_client().request("/api/viz/events?token=sesame") as stream:
        await stream.send_complete()
        await stream.receive()
        assert await (await app.test_client().get("/hello")).get_data() == b"Hello, world"
        event = json.loads((await stream.receive()).split(b"data: ")[1])
        print(event["source"], event["subject"])
        pipe.stop()

trio.run(main)
"""
    outcome = python(snippets("python")[1] + client, VIZ_TOKEN="sesame")
    assert (outcome.stdout, outcome.stderr) == ("hello world\n", "")


def test_every_directory_and_command_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"(?:^\$ |`)make ([\w-]+)", readme, re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(), target
    modules: list[str] = re.findall(r"-m (examples[\w.]+)", readme)
    for module in modules:
        path = ROOT.joinpath(*module.split("."))
        assert (path / "__main__.py").exists() or path.with_suffix(".py").exists(), module


def test_the_published_table_is_that_of_the_published_results() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "latest.json").read_text())
    table = markdown([row["cells"] for row in results["rows"]])
    assert table.count("\n") > 40
    assert f"\n{table}\n" in (ROOT / "docs" / "performance.md").read_text()


def test_the_ratios_in_the_readme_are_those_of_the_published_results() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "latest.json").read_text())
    measured = {row["figure"]: row["value"] for row in results["rows"]}
    readme = " ".join((ROOT / "README.md").read_text().split())
    delivered = "delivered events/s, 100 viewers / "
    for figure, digits, words in (
        (delivered + "one write per event", 0, "× one write per event on the same stack"),
        (delivered + "sse-starlette", 0, "× sse-starlette as its README"),
        (delivered + "sse-starlette without its check", 0, "× sse-starlette without that look"),
        ("host request, 1000 viewers x 100 events/s / no viewer, median", 1, "× as long as with none"),
        ("host request, 1000 viewers connect / 1000 requests, p99", 1, "× as long, at the 99th percentile"),
    ):
        assert f"{measured[figure]:.{digits}f} {words}" in readme

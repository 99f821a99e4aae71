"""Promises about the package as a whole: what it imports, and what its README says."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import markdown

ROOT = Path(__file__).parent.parent


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code],
        check=False, capture_output=True, text=True, timeout=60, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


def test_the_package_alone_imports_trio_and_msgspec_and_nothing_else() -> None:
    outcome = python(
        "import sys, trio, msgspec; before = set(sys.modules); import vizpipe_trio;"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    assert outcome.stdout.split() == ["vizpipe_trio"], outcome.stderr


def test_importing_takes_hardly_longer_than_trio_and_msgspec_do() -> None:
    """In this order the second import is all ours: what it adds must be under 0.3 of the first.

    In the processor's time: others use the machine meanwhile.
    """
    ratios: list[float] = []
    for _ in range(7):
        outcome = python(
            "from time import process_time as now; a = now(); import trio, msgspec; b = now();"
            "import vizpipe_trio; print((now() - a) / (b - a))"
        )
        ratios.append(float(outcome.stdout))
    assert statistics.median(ratios) <= 1.3


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


def test_the_search_of_the_readme_records_what_it_goes_through() -> None:
    before = """
import trio
from vizpipe_trio import open_pipe

cache = {"loops": ["for"]}

async def look_up(query):
    return ["a", "b"]
"""
    after = """
async def main():
    global pipe
    async with open_pipe() as pipe:
        with pipe.subscribe() as events:
            await search("loops")
            await search("dicts")
            for _ in range(2):
                event = await anext(events)
                print(event.subject, event.result_count, *(stage.name for stage in event.stages if stage.hit))

trio.run(main)
"""
    [snippet] = [text for text in snippets("python") if "async def search(query)" in text]
    outcome = python(before + snippet + after)
    assert (outcome.stdout, outcome.stderr) == ("loops 1 cache\ndicts 2 lookup\n", "")


def test_the_watcher_of_the_readme_prints_what_comes_and_what_is_lost() -> None:
    [snippet] = [text for text in snippets("python") if "open_events" in text]
    code = """
import builtins
from functools import partial
import hypercorn.trio
from hypercorn.config import Config
from quart_trio import QuartTrio
from vizpipe_trio import Event, Pipe
from vizpipe_trio.quart import viz_blueprint

end = trio.Event()

def print(*words):
    builtins.print(*words)
    if words[0] == "lost here:":
        end.set()

async def main():
    pipe, config, app = Pipe(capacity=3), Config(), QuartTrio("readme")
    config.bind, config.errorlog, config.graceful_timeout = ["127.0.0.1:0"], None, 0.1
    app.register_blueprint(viz_blueprint(pipe, token="sesame"))
    async with trio.open_nursery() as nursery:
        await nursery.start(pipe.run)
        [url] = await nursery.start(partial(hypercorn.trio.serve, app, config, shutdown_trigger=trio.sleep_forever))
        nursery.start_soon(watch, url, "sesame")
        while not pipe.statistics().clients:
            await trio.sleep(0.01)
        for status in ("DENIED", "ALLOWED", "FILTERED", "DENIED", "DENIED"):
            pipe.emit(Event(subject="loops", status=status, total_ms=1.5))
        await end.wait()
        nursery.cancel_scope.cancel()

trio.run(main)
"""
    outcome = python(snippet + code)
    assert outcome.stdout.splitlines() == [
        "loops DENIED 1.5", "loops FILTERED 1.5", "lost here: None overload",
    ], outcome.stderr  # fmt: skip


def test_the_collector_and_the_span_processor_of_the_readme_work_together() -> None:
    chosen = [text for text in snippets("python") if "PipeCollector" in text or "PipeSpanProcessor" in text]
    assert len(chosen) == 2
    after = """
with provider.get_tracer("readme").start_as_current_span("GET /search"):
    pass
print(int(REGISTRY.get_sample_value("vizpipe_events_emitted_total")))
"""
    outcome = python("from vizpipe_trio import Pipe\npipe = Pipe()\n" + "".join(chosen) + after)
    assert (outcome.stdout, outcome.stderr) == ("1\n", "")


def test_every_directory_and_command_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"^\$ make (\w+)", readme, re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(), target


@pytest.mark.parametrize("snippet", snippets("python"))
def test_the_snippets_are_formatted_as_the_code_is(snippet: str) -> None:
    compile(snippet, "README.md", "exec")
    assert max(map(len, snippet.splitlines())) <= 120


def test_the_published_table_is_that_of_the_published_results() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "latest.json").read_text())
    table = markdown([row["cells"] for row in results["rows"]])
    assert table.count("\n") > 40
    assert f"\n{table}\n" in (ROOT / "docs" / "performance.md").read_text()

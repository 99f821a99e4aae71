"""A newcomer's first minutes with the README, outside the repository, with what is published."""

import re
import shlex
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from browsing import Chromium, rows
from packaging_tools import ROOT, Environment, build, install, run
from pages import commands
from playwright.sync_api import Page, expect
from support import get

README = (ROOT / "README.md").read_text()


def snippet(*words: str) -> str:
    """Return the README's only snippet of Python that has all these words."""
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    [found] = [text for text in snippets if all(word in text for word in words)]
    return str(found)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give an environment as the README has it made, with the app and its test in its directory."""
    wheel = build(ROOT, tmp_path_factory.mktemp("dist")).wheel
    environment = install(tmp_path_factory.mktemp("newcomer"), f"{wheel}[quart,testing]")
    environment.home.joinpath("module.py").write_text(snippet("QuartTrio(__name__)", "StreamGuard"))
    test = snippet("from module import app")
    environment.home.joinpath("test_module.py").write_text(test)
    environment.home.joinpath("test_another.py").write_text(test)  # of the same app and pipe
    environment.home.joinpath("pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    return environment


def commands_to_run_it() -> list[str]:
    """Return the commands by which the README runs the app."""
    [block] = [
        text for text in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if "module:app" in text
    ]
    return [command for command, _ in commands(block)]


@pytest.fixture(scope="module")
def token() -> str:
    """Give the token that the README's commands make, and print in the page's address."""
    export, echo, _ = commands_to_run_it()
    page, _, token = run("bash", "-c", f"{export}\n{echo}").stdout.strip().partition("?token=")
    assert (page, len(token)) == ("http://127.0.0.1:8000/viz/", 43)
    return token


@asynccontextmanager
async def served(environment: Environment, token: str) -> AsyncGenerator[str]:
    """Serve the app by the README's command, on any free port, for at most 120 seconds; give its address."""
    hypercorn, *arguments = shlex.split(commands_to_run_it()[2])
    command = [str(environment.bin / hypercorn), *arguments, "--bind", "127.0.0.1:0"]
    start = partial(
        trio.run_process, command, cwd=environment.home, env={"VIZ_TOKEN": token}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(start)
            assert process.stdout is not None
            printed = b""
            while (address := re.search(rb"Running on (http://127\.0\.0\.1:\d+) ", printed)) is None:
                printed += await process.stdout.receive_some() or pytest.fail(f"it ended: {printed!r}")
            yield address[1].decode()
            process.terminate()


async def test_the_readmes_app_is_served_by_its_command_and_seen_in_the_browser(
    environment: Environment, browse: Chromium, token: str
) -> None:
    def script(page: Page) -> None:
        page.goto(f"{url}/viz/?token={token}")
        expect(page.locator("#words")).to_have_text("Live")
        assert browse.run_in_trio(get, url, "/hello").text == "Hello, world"
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text("world")
        expect(page.locator("#pipeline")).to_contain_text("greet")

    async with served(environment, token) as url:
        await browse(script)


def test_the_readmes_test_of_the_app_passes_and_so_does_another(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("VIZ_TOKEN", token)
    printed = run(environment.bin / "pytest", "-q", cwd=environment.home).stdout
    assert re.search(r"^2 passed in", printed, re.MULTILINE), printed


def test_what_was_installed_is_what_is_published(environment: Environment) -> None:
    place = environment.python("import vizpipe_trio; print(vizpipe_trio.__file__)").strip()
    assert Path(place).is_relative_to(environment.home)

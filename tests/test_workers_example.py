"""Four processes under Hypercorn that share a Valkey server, run as a user runs them."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGSTOP, SIGTERM
from typing import Any, NamedTuple

import trio
from browsing import Chromium
from coredis import Redis
from playwright.sync_api import Page, expect
from support import get, until, watch
from valkey_server import KEY

Frame = tuple[str, dict[str, Any]]

TOKEN = "sesame"


def descendants(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def command_of(pid: int, module: str) -> int:
    """Return the descendant of a process that runs a module."""
    [found] = [
        each for each in descendants(pid) if f"\0{module}\0" in Path(f"/proc/{each}/cmdline").read_text()
    ]
    return found


class Example(NamedTuple):
    """The example while it runs."""

    address: str
    pid: int

    def workers(self) -> list[int]:
        """Return the processes that have the listening socket: it was handed to them."""
        return [
            pid for pid in descendants(self.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
        ]

    @contextmanager
    def only(self, worker: int) -> Generator[None]:
        """Let one worker take all connections while in the block. Which one gets one is the kernel's choice."""
        others = [pid for pid in self.workers() if pid != worker]
        try:
            for pid in others:
                os.kill(pid, SIGSTOP)
            yield
        finally:
            for pid in others:
                os.kill(pid, SIGCONT)


@asynccontextmanager
async def run_example(count: int) -> AsyncGenerator[Example]:
    """Run the example with so many workers while in the block."""
    command = [sys.executable, "-u", "-m", "examples.workers", "--port", "0"]
    command += ["--token", TOKEN, "--workers", str(count)]
    start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(start)
            assert process.stdout is not None
            printed = b""
            while b"Ctrl-C" not in printed:
                printed += await process.stdout.receive_some()
            address, server = re.findall(r"(?:http|redis)://[0-9.:]*[0-9]", printed.decode())[-2:]
            async with Redis.from_url(server) as client:
                while len(await client.xrange(KEY)) < count:  # noqa: ASYNC110 - each says hello
                    await trio.sleep(0.05)
            yield Example(address, process.pid)
            process.send_signal(SIGINT)
            assert await process.wait() == 0


async def search(address: str, found: list[str]) -> None:
    """Send a request over a new connection, and add its ID."""
    found.append((await get(address, "/search?q=loop")).json()["request_id"])


async def search_often(address: str, count: int) -> list[str]:
    """Send so many requests at once, so that several workers answer, and return their IDs."""
    found: list[str] = []
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(search, address, found)
    return found


async def run(address: str, query: str, *, task_status: trio.TaskStatus[list[Frame]]) -> None:
    """Run a viewer that adds what it is shown to a list."""
    frames: list[Frame] = []
    async with watch(address, query) as viewer:
        task_status.started(frames)
        while True:
            head, _, data = (await viewer.frame()).partition(b"\ndata: ")
            frames.append((head.decode(), json.loads(data)))


def requests(frames: list[Frame]) -> list[str]:
    return sorted(content["request_id"] for _, content in frames)


async def test_viewers_of_four_processes_see_all_requests_once_and_resume_at_any_of_them() -> None:
    query = f"?token={TOKEN}"
    async with run_example(4) as example, trio.open_nursery() as nursery:
        address = example.address
        viewers: list[list[Frame]] = []
        workers = example.workers()
        assert len(workers) == 4
        for worker in workers:
            with example.only(worker):
                viewers += [await nursery.start(partial(run, address, query)) for _ in range(4)]
        first = await search_often(address, 12)
        await until(lambda: all(len(frames) == 12 for frames in viewers))
        assert all(requests(frames) == sorted(first) for frames in viewers)
        last_ids = [frames[-1][0].removeprefix("id: ") for frames in viewers]
        assert len({last_id[:8] for last_id in last_ids}) == 4
        more = await search_often(address, 4)
        await until(lambda: all(len(frames) == 16 for frames in viewers))
        resumed = [
            await nursery.start(partial(run, address, f"{query}&last_event_id={last_id}"))
            for last_id in last_ids
        ]
        await until(lambda: all(len(frames) == 4 for frames in resumed))
        assert all(requests(frames) == sorted(more) for frames in resumed)
        nursery.cancel_scope.cancel()


async def test_one_dashboard_and_a_viewer_with_a_filter_see_the_requests_of_all_processes(
    browse: Chromium,
) -> None:
    def script(page: Page) -> None:
        page.goto(f"{address}/viz/?token={TOKEN}")
        expect(page.locator("#words")).to_have_text("Live")
        browse.run_in_trio(search_often, address, 12)
        expect(page.locator("#seen")).to_have_text("12")
        expect(page.locator("#missed-all")).to_have_text("0")

    async with run_example(2) as (address, _), trio.open_nursery() as nursery:
        wanted = await nursery.start(partial(run, address, f"?token={TOKEN}&op=QUERY"))
        unwanted = await nursery.start(partial(run, address, f"?token={TOKEN}&op=WRITE"))
        await browse(script)
        await until(lambda: len(wanted) == 12)
        assert unwanted == []
        nursery.cancel_scope.cancel()


async def fail(*options: str) -> tuple[int, str, str]:
    """Run the example while it cannot run, and return its exit code and what it wrote."""
    command = [sys.executable, "-m", "examples.workers", *options]
    with trio.fail_after(120):
        ended = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


async def test_a_port_that_is_taken_is_said_and_nothing_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = await fail("--port", str(port))
    assert (code, out) == (1, "")
    assert err == f"Can't listen on 127.0.0.1 port {port}: Address already in use\n"


async def test_the_example_ends_when_its_servers_end() -> None:
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            command = [sys.executable, "-u", "-m", "examples.workers", "--port", "0", "--workers", "2"]
            start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
            process: trio.Process = await nursery.start(start)
            assert process.stdout is not None
            printed = b""
            while b"Ctrl-C" not in printed:
                printed += await process.stdout.receive_some()
            os.kill(command_of(process.pid, "hypercorn"), SIGTERM)
            assert await process.wait() == 0

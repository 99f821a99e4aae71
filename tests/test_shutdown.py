"""A server in a process of its own, ended by a signal: from Python, and by Hypercorn's command."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from support import Connection, sequence, watch

HERE = Path(__file__).parent
VIEWERS = 200
FULL = 100
"""Events that are more than the kernel holds for a client that does not read."""

PYTHON = ["guarded_app.py"]
COMMAND = ["-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:0", "guarded_app:app"]


class Served(NamedTuple):
    process: trio.Process
    url: str
    log: bytearray

    def kill(self) -> None:
        """End the process and its workers without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)


@asynccontextmanager
async def serving(arguments: list[str], grace: float) -> AsyncGenerator[Served]:
    """Run the server until it ends by itself, and no longer than the block."""
    log = bytearray()
    workers = 2 if "--workers" in arguments else 1  # each says where it listens, with its process ID
    listening = trio.Event()
    url = ""

    async def read(stream: trio.abc.ReceiveStream) -> None:
        nonlocal url
        async for data in stream:
            log.extend(data)
            found = dict(re.findall(rb"\[(\d+)\] \[INFO\] Running on (http://127.0.0.1:\d+) ", log))
            if len(found) == workers:
                url = next(iter(found.values())).decode()
                listening.set()

    async with trio.open_nursery() as nursery:
        environment = {**os.environ, "GRACE": str(grace), "PYTHONPATH": str(HERE)}
        process = await trio.lowlevel.open_process(
            [sys.executable, "-u", *arguments, "--graceful-timeout", str(grace)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=HERE,
            env=environment,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            nursery.start_soon(read, process.stdout)
            await listening.wait()
            yield Served(process, url, log)
            assert await process.wait() in {0, -signal.SIGKILL}
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await process.wait()
    assert b"Traceback" not in log
    assert b"Error" not in log


def ends(log: bytes) -> list[dict[str, Any]]:
    """Return what each worker said when its lifespan ended."""
    return [json.loads(line) for line in re.findall(rb"ended (\{.*\})", log)]


class Viewers:
    """Clients of which each reads to the end of its stream, and then to the end of its connection."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reading = 0
        self.last: list[int] = []
        self.ended_at: list[float] = []
        self.all_read = trio.Event()

    async def read(self, connection: Connection) -> None:
        """Read a stream; ``all_read`` once each viewer has read as many events as are asked for."""
        last = b""
        for _ in range(self.count):
            last = await connection.frame()
        self.reading += 1
        if self.reading == VIEWERS:
            self.all_read.set()
        while frame := await connection.frame():
            last = frame
        assert await connection.stream.receive_some() == b""
        self.last.append(sequence(last))
        self.ended_at.append(trio.current_time())


async def end_by_signal(
    arguments: list[str], number: signal.Signals, *, stuck: int, grace: float
) -> tuple[Viewers, list[dict[str, Any]], float, float]:
    """Return the viewers, what the workers said, when the signal was sent, and how long the end took."""
    viewers = Viewers(FULL if stuck else 1)
    with trio.fail_after(100):
        async with (
            serving(arguments, grace) as served,
            AsyncExitStack() as stack,
            trio.open_nursery() as nursery,
        ):
            for _ in range(stuck):
                await stack.enter_async_context(watch(served.url, receive_buffer=4096))
            for _ in range(VIEWERS):
                connection = await stack.enter_async_context(watch(served.url))
                nursery.start_soon(viewers.read, connection)
            await viewers.all_read.wait()
            began = trio.current_time()
            # A terminal's Ctrl-C reaches the workers too, a supervisor's SIGTERM only the master.
            (os.killpg if number == signal.SIGINT else os.kill)(served.process.pid, number)
            await served.process.wait()
            took = trio.current_time() - began
    return viewers, ends(bytes(served.log)), began, took


WAYS = {
    "python": PYTHON,
    "command": COMMAND,
    "command, two workers": [*COMMAND, "--workers", "2"],
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", WAYS)
async def test_a_signal_ends_two_hundred_streams_properly_and_the_process_without_the_grace(
    way: str, number: signal.Signals
) -> None:
    viewers, said, _, took = await end_by_signal(WAYS[way], number, stuck=0, grace=20)
    assert len(viewers.last) == VIEWERS
    assert {one["broadcast"] for one in said} >= set(viewers.last)  # the last event has reached each
    assert [one["clients"] for one in said] == [0] * (2 if "two" in way else 1)
    assert took < 10


@pytest.mark.parametrize("way", WAYS)
async def test_clients_that_have_stopped_reading_hold_up_the_end_no_longer_than_the_grace(way: str) -> None:
    viewers, said, began, took = await end_by_signal(WAYS[way], signal.SIGTERM, stuck=10, grace=4)
    assert len(viewers.last) == VIEWERS
    assert max(viewers.ended_at) - began < 4
    assert [one["clients"] for one in said] == [0] * (2 if "two" in way else 1)
    assert 4 <= took < 14

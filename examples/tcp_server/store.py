"""The store: pairs in SQLite, a cache in front of it, and an event for each request."""

import sqlite3
from typing import Self

import trio

from vizpipe_trio import Pipe, Recording

CACHE_CAPACITY = 100
USAGE = "ERROR: SET key value, GET key or DEL key"


class Store:
    """Answers requests. Leave its ``with`` block when nothing is under way."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._cache: dict[str, str | None] = {}
        # For one thread at a time at the connection, and a cache that is never behind the table.
        self._lock = trio.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.execute("CREATE TABLE pairs (key TEXT PRIMARY KEY, value TEXT)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    async def answer(self, line: str) -> str:
        """Answer one request, and tell the pipe."""
        match line.split(maxsplit=2):
            case ["GET", key]:
                with self._pipe.record("QUERY", subject=key) as request:
                    value = await self._get(key, request)
                return "(none)" if value is None else value
            case ["SET", key, value]:
                with self._pipe.record("WRITE", subject=key):
                    await self._put(key, value, "INSERT OR REPLACE INTO pairs VALUES (:key, :value)")
                return "OK"
            case ["DEL", key]:
                with self._pipe.record("WRITE", subject=key):
                    await self._put(key, None, "DELETE FROM pairs WHERE key = :key")
                return "OK"
            case _:
                return USAGE

    async def _get(self, key: str, request: Recording) -> str | None:
        with request.stage("cache") as cache:
            cache.hit = key in self._cache
        if cache.hit:
            return self._cache[key]
        with request.stage("store") as store:
            async with self._lock:
                rows = await self._execute("SELECT value FROM pairs WHERE key = :key", key, None)
                value = rows[0][0] if rows else None
                self._remember(key, value)
            store.hit = True
        return value

    async def _put(self, key: str, value: str | None, statement: str) -> None:
        async with self._lock:
            await self._execute(statement, key, value)
            self._remember(key, value)

    def _remember(self, key: str, value: str | None) -> None:
        self._cache.pop(key, None)
        self._cache[key] = value
        if len(self._cache) > CACHE_CAPACITY:
            del self._cache[next(iter(self._cache))]

    async def _execute(self, statement: str, key: str, value: str | None) -> list[tuple[str]]:
        def execute() -> list[tuple[str]]:
            return self._connection.execute(statement, {"key": key, "value": value}).fetchall()

        return await trio.to_thread.run_sync(execute)

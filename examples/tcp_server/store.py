"""The store: pairs in SQLite, a cache in front of it, and an event for each request."""

import sqlite3
from time import perf_counter
from typing import Self

import trio

from vizpipe_trio import Event, Pipe, StageInfo

CACHE_CAPACITY = 100
USAGE = "ERROR: SET key value, GET key or DEL key"


class Laps:
    """What a request went through: its stages, one after the other, and the time that each took."""

    def __init__(self) -> None:
        self.stages: list[StageInfo] = []
        self._started = self._last = perf_counter()

    def lap(self, name: str, *, hit: bool = False) -> None:
        """End a stage, and begin the next."""
        now = perf_counter()
        self.stages.append(StageInfo(len(self.stages) + 1, name, (now - self._last) * 1000, hit))
        self._last = now

    def total_ms(self) -> float:
        """Return the time since the request came in."""
        return (perf_counter() - self._started) * 1000


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
        laps = Laps()
        words = line.split(maxsplit=2)
        laps.lap("parse")
        match words:
            case ["GET", key]:
                value = await self._get(key, laps)
                answer = "(none)" if value is None else value
                event = Event(op="QUERY", subject=key, total_ms=laps.total_ms(), stages=laps.stages)
            case ["SET", key, value]:
                await self._put(key, value, "INSERT OR REPLACE INTO pairs VALUES (:key, :value)")
                answer, event = "OK", Event(op="WRITE", subject=key, total_ms=laps.total_ms())
            case ["DEL", key]:
                await self._put(key, None, "DELETE FROM pairs WHERE key = :key")
                answer, event = "OK", Event(op="WRITE", subject=key, total_ms=laps.total_ms())
            case _:
                return USAGE
        self._pipe.emit(event)  # returns at once, whatever becomes of the event
        return answer

    async def _get(self, key: str, laps: Laps) -> str | None:
        cached = key in self._cache
        laps.lap("cache", hit=cached)
        if cached:
            return self._cache[key]
        async with self._lock:
            rows = await self._execute("SELECT value FROM pairs WHERE key = :key", key, None)
            value = rows[0][0] if rows else None
            self._remember(key, value)
        laps.lap("store", hit=True)
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

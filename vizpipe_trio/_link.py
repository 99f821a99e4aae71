"""The way to the server: one stream of messages, over coredis. What fails here is the link's end.

A stream and not publish and subscribe, for it is read at the reader's pace: what a worker has
not read yet stays in the server, bounded, and a short loss of the connection loses nothing.
"""

import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from secrets import token_hex
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import trio
from coredis import Redis
from coredis.connection import TCPConnection
from coredis.exceptions import ConnectionError as LostConnectionError
from coredis.exceptions import RedisClusterError, RedisError, ResponseError
from coredis.pool import ConnectionPool
from coredis.response.types import StreamEntry
from coredis.retry import NoRetryPolicy
from coredis.tokens import PureToken

from ._sight import Spot

ANSWER_SECONDS = 5.0
"""How long the server may take to answer. Then the link is given up, and another one tried."""

BLOCK_SECONDS = 2.0
"""How long a read waits in the server for news; so often a connection that is dead is noticed."""

MESSAGES_A_READ = 16
"""Messages that one read may bring: at most 2 MB. The stream keeps as many at least."""

_EPOCH = re.compile(rb"[0-9a-f]{8}")

MAX_PORT = 65_535

_USER = r"(?:[^/?#@\[\]]*@)?"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^/?#@\[\]:]+)"
_OPTION = r"(?:db=[0-9]+|client_name=[^&#@]+)"
_URL = re.compile(
    rf"(?:unix://{_USER}/[^?#@]+|[a-z]+://{_USER}{_HOST}(?::(?P<port>[0-9]{{1,5}}))?(?:/[0-9]*)?)"
    rf"(?:\?{_OPTION}(?:&{_OPTION})*)?"
)

_CLUSTER = "it is part of a Cluster, which the relay does not support"
_REFUSED = {"cluster": _CLUSTER, "sentinel": "it is a Sentinel, which the relay does not support"}

Message = tuple[Spot, Mapping[bytes, bytes]]


def check_url(url: str) -> None:
    """Raise `ValueError` for a server that cannot be used; a URL that has a password is not quoted."""
    scheme = url.partition(":")[0]
    if scheme not in {"redis", "rediss", "valkey", "valkeys", "unix"}:
        raise ValueError(
            f"the relay needs one server, redis://, rediss:// or unix://, not {scheme}://: "
            "Cluster and Sentinel are not supported"
        )
    if "ssl_" in url.partition("?")[2]:
        raise ValueError("give TLS options as ssl_context, not in the URL")
    found = _URL.fullmatch(url)
    if not found or not 0 < int(found["port"] or 1) <= MAX_PORT:
        raise ValueError(
            "the relay cannot use its URL: it needs a host, a port from 1 to 65535 if any, and as database a "
            "number; behind a ? it may have db and client_name only; "
            "in a user or a password /, ?, #, [, ] and @ are written as %2F, %3F, %23, %5B, %5D and %40"
        )


@contextmanager
def _until(seconds: float) -> Generator[None]:
    """Bound the time for an answer, and say plainly what it means when there is none that helps."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise TimeoutError("the server does not answer") from None
    except RedisClusterError:
        raise RuntimeError(_CLUSTER) from None


class Link:
    """Two connections to the server that holds the stream: a read blocks its own.

    Both are used before the link counts as open, and neither is opened again: what was found out
    over the one need not hold for the next, to a server that has lost its data.

    Args:
        reader: The one to read over.
        writer: The one to write over.
        key: The stream's key.
        length: So many messages the stream keeps, or a few more.
    """

    def __init__(self, reader: "Redis[bytes]", writer: "Redis[bytes]", key: str, length: int) -> None:
        self._reader = reader
        self._writer = writer
        self._key = key
        self._length = max(length, MESSAGES_A_READ)

    async def check_server(self) -> str:
        """Return what names this run of the server, nothing if it may not be asked.

        Raises:
            RuntimeError: It is part of a Cluster, or a Sentinel.
        """
        with _until(ANSWER_SECONDS):
            try:
                told = await self._reader.info("server")
            except ResponseError:
                return ""
        mode = str(told.get("redis_mode", told.get("server_mode")))  # as Redis says it, and Valkey
        if mode in _REFUSED:
            raise RuntimeError(_REFUSED[mode])
        return str(told.get("run_id", ""))

    async def epoch(self) -> bytes:
        """Return the stream's epoch: another one after the server has lost its data."""
        key = f"{self._key}:epoch"
        with _until(ANSWER_SECONDS):
            found = await self._reader.get(key)
            if found is None:
                await self._writer.set(key, token_hex(4), condition=PureToken.NX)
                found = await self._reader.get(key)
        if found is None or not _EPOCH.fullmatch(found):
            raise RuntimeError(f"the server's {key} is {found!r:.99}")
        return found

    async def begin_anew(self, message: Mapping[str, bytes]) -> None:
        """Have the stream begin anew, with a message and nothing before it."""
        with _until(ANSWER_SECONDS):
            async with self._writer.pipeline(transaction=True) as pipeline:
                pipeline.set(f"{self._key}:epoch", token_hex(4))
                pipeline.xadd(self._key, message, trim_strategy=PureToken.MAXLEN, threshold=1)

    async def latest(self, count: int) -> Sequence[Message]:
        """Return the last messages, oldest first."""
        with _until(ANSWER_SECONDS):
            entries = await self._reader.xrevrange(self._key, count=count)
        return _messages(reversed(entries))

    async def has(self, spot: Spot) -> bool:
        """Return whether a message is still there."""
        place = f"{spot.ms}-{spot.n}"
        with _until(ANSWER_SECONDS):
            return bool(await self._reader.xrange(self._key, start=place, end=place))

    async def read(self, after: Spot) -> Sequence[Message]:
        """Return messages behind a spot, none if none come in some seconds."""
        with _until(BLOCK_SECONDS + ANSWER_SECONDS):
            found = await self._reader.xread(
                {self._key: f"{after.ms}-{after.n}"},
                count=MESSAGES_A_READ,
                block=round(BLOCK_SECONDS * 1000),
            )
        return _messages(entry for entries in (found or {}).values() for entry in entries)

    async def keep(self) -> None:
        """Use the connection to write over, and so see that it is still there."""
        with _until(ANSWER_SECONDS):
            await self._writer.get(f"{self._key}:epoch")

    async def append(self, message: Mapping[str, bytes]) -> Spot:
        """Append a message, and return its spot.

        Raises:
            ResponseError: The server refuses it. After any other error it may have it.
        """
        with _until(ANSWER_SECONDS):
            return _spot(await self._add(self._writer, message))

    async def append_all(self, messages: Iterable[Mapping[str, bytes]]) -> None:
        """Append messages, all or none; raises as `append` does."""
        with _until(ANSWER_SECONDS):
            try:
                async with self._writer.pipeline(transaction=True) as pipeline:
                    for fields in messages:
                        self._add(pipeline, fields)
            except RedisError as error:
                # coredis puts the whole message before what the server said: that is not for the log.
                error.args = (str(error).rpartition("of pipeline caused error: ")[2],)
                raise

    def _add(self, client: Any, fields: Mapping[str, bytes]) -> Awaitable[bytes]:
        added: Awaitable[bytes] = client.xadd(
            self._key,
            fields,
            trim_strategy=PureToken.MAXLEN,
            trim_operator=PureToken.APPROXIMATELY,
            threshold=self._length,
        )
        return added


def _messages(entries: Iterable[StreamEntry]) -> list[Message]:
    messages: list[Message] = []
    for entry in entries:
        # They are bytes: the client is one that decodes nothing.
        spot = _spot(cast("bytes", entry.identifier))
        messages.append((spot, cast("Mapping[bytes, bytes]", entry.field_values)))
    return messages


def _spot(identifier: bytes) -> Spot:
    ms, _, n = identifier.partition(b"-")
    return Spot(int(ms), int(n), 0)


class _OnePool(ConnectionPool[TCPConnection]):
    """One connection, and none after it: coredis would open another one and say nothing."""

    _only: TCPConnection | None = None

    async def get_connection(self, **options: Any) -> TCPConnection:
        if self._only is not None and not self._only.usable:
            raise LostConnectionError("the connection was lost")
        self._only = await super().get_connection(**options)
        return self._only


@asynccontextmanager
async def open_link(
    url: str,
    key: str,
    length: int,
    *,
    username: str | None,
    password: str | None,
    ssl_context: ssl.SSLContext | None,
) -> AsyncGenerator[Link]:
    """Open a link; what is given beside the URL goes before what is in it."""
    scheme, _, rest = url.partition("://")
    user, _, place = rest.rpartition("@")
    name, _, secret = map(unquote, user.partition(":"))
    # Not left in the URL: there coredis has it go before what is given beside it.
    url = f"{scheme.replace('valkey', 'redis')}://{place}"
    options: dict[str, Any] = {
        "username": (name or None) if username is None else username,
        "password": (secret or None) if password is None else password,
    }
    if ssl_context is not None:
        options["ssl_context"] = ssl_context
    parts = urlsplit(url)
    if parts.scheme != "unix":
        # Else coredis would write a traceback into the log with each try in vain.
        with _until(ANSWER_SECONDS):
            await (await trio.open_tcp_stream(parts.hostname or "localhost", parts.port or 6379)).aclose()
    options.update(connect_timeout=ANSWER_SECONDS, decode_components=True)
    reader, writer = (
        Redis(
            connection_pool=_OnePool.from_url(url, **options),
            retry_policy=NoRetryPolicy(),
        )
        for _ in range(2)
    )
    async with reader, writer:
        yield Link(reader, writer, key, length)

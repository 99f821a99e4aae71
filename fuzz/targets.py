"""What a fuzzer may do with each part that takes bytes, and what must hold whatever they are.

Plain functions of bytes, so that what was found once is run again without a fuzzer. They raise when a
promise is broken.
"""

import json
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx  # noqa: ASYNC127 - httpx-sse is made for it
import trio
from httpx_sse import EventSource
from quart_trio import QuartTrio
from werkzeug.exceptions import BadHost

from vizpipe_trio import Event, Pipe, StageInfo, marshal_sse
from vizpipe_trio._batch import Batch
from vizpipe_trio._log import Log
from vizpipe_trio._sse import event_frame
from vizpipe_trio.quart import viz_blueprint

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105 - it guards nothing


def event(data: bytes) -> None:
    """Make an event of bytes: it is refused, or comes out of httpx-sse as it went in.

    Three numbers come first, then texts with 0xFF between them, which UTF-8 has no use for.
    """
    numbers, texts = data[:24].ljust(24, b"\0"), data[24:].split(b"\xff")
    total_ms, ms, large = struct.unpack("<ddq", numbers)
    count = large >> 9  # a few of them too large
    request_id, source, subject, name, *labels = (
        *(text.decode("utf-8", "surrogateescape") for text in texts),
        *("",) * max(0, 4 - len(texts)),
    )
    stages = [StageInfo(count, name, ms, hit=True)] if name else None
    made = Event(
        request_id=request_id, source=source, subject=subject, labels=labels,
        result_count=count, total_ms=total_ms, stages=stages,
    )  # fmt: skip
    try:
        encoded = marshal_sse(made)
    except ValueError:
        return
    frame = event_frame(b"7c1e9f-1", encoded[len(b"data: ") : -2])
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=frame)
    [message] = EventSource(response).iter_sse()
    if (message.event, message.id, len(frame.decode().splitlines())) != ("message", "7c1e9f-1", 3):
        raise AssertionError(frame)
    got: dict[str, Any] = json.loads(message.data)
    for field in ("request_id", "source", "subject", "labels", "result_count", "total_ms"):
        if got[field] != getattr(made, field):
            raise AssertionError(field)
    stage = {"stage": count, "name": name, "ms": ms, "hit": True}
    if got["stages"] != (None if stages is None else [stage]):
        raise AssertionError("stages")


def request(data: bytes) -> None:
    """Ask for the stream or the statistics: nobody is let in who should not be, and nothing fails.

    The first byte says what for and of whom, then come lines: the query, then headers. What a
    server would not let through is left out.
    """
    first, lines = data[:1], data[1:].split(b"\n")
    query = re.sub(rb"[^!-~]", b"", lines[0])
    path = "/api/viz/events" if first < b"\x80" else "/api/viz/stats"
    headers = [
        (name.lower(), re.sub(rb"[^!-~\x80-\xff]+", b" ", value).strip())
        for name, colon, value in (line.partition(b":") for line in lines[1:])
        if colon and re.fullmatch(rb"[A-Za-z0-9-]+", name)
    ]
    with_token = bool(first) and first[0] % 2 == 1
    status = trio.run(_ask, TOKEN if with_token else None, path, query, headers)
    if status not in {200, 400, 401, 403, 413, 414}:
        raise AssertionError(status)
    if status == 200:  # noqa: PLR2004 - HTTP's number
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        said = b" ".join([unquote_to_bytes(query), *(value for _, value in headers)])
        if with_token and TOKEN.encode() not in said:
            raise AssertionError("let in without the token")
        if not with_token and not re.fullmatch(r"(?i)(localhost|\[?[0-9a-f:.]+]?)(:\d*)?", hosts[-1]):
            raise AssertionError(f"let in as {hosts}")


@cache
def _app(token: str | None) -> QuartTrio:
    app = QuartTrio("fuzz")
    app.register_blueprint(viz_blueprint(Pipe(), token=token))
    return app


async def _ask(token: str | None, path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    """Return the status of an answer, after its first bytes."""
    app = _app(token)
    answered = trio.Event()
    status = 0
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": b"", "more_body": False}
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answered.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000), "extensions": {}, "state": {},
    }  # fmt: skip
    try:
        with trio.fail_after(10):
            await app.asgi_app(scope, receive, send)  # type: ignore[arg-type]
    except* BadHost:
        status = 400  # Quart's own refusal, of which it makes an error
    return status


def resume(data: bytes) -> None:
    """Come back with any ID: what follows is right, and a gap that cannot be known is told."""
    log = Log(keep=8)
    for number in range(1, 13):
        if number in {4, 10}:
            log.add_gap(2)
        log.extend(Batch([Event(result_count=number)], [log.event_id(1)], [0.0]))
        log.settle(log.head)
    run = log.event_id(0).partition(b"-")[0].decode()
    last_event_id = data.decode("latin-1").replace("RUN", run)
    lost, place = log.resume(last_event_id)
    numbers = [made.result_count for stretch in log.since(place) for made in stretch.batch.events]
    known = re.fullmatch(rf"{run}-0*(\d+)", last_event_id, re.ASCII)
    if known and int(known[1]) <= 12 and len(last_event_id) < 28:  # noqa: PLR2004 - as many as there are
        if numbers != [*range(max(int(known[1]) + 1, 5), 13)]:
            raise AssertionError(numbers)
    elif numbers != [*range(5, 13)] or lost is None or lost.count is not None:
        raise AssertionError((lost, numbers))


TARGETS: dict[str, Callable[[bytes], None]] = {"event": event, "request": request, "resume": resume}

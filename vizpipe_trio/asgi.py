"""For any ASGI app on Trio: record its requests, and answer with an event stream::

    app = RecordRequests(app, pipe)

and, in a view of Starlette or another framework whose responses are ASGI apps::

    return EventStreamResponse(EventStream(pipe, last_event_id=request.headers.get("last-event-id", "")))

Needs nothing but the package itself. For Quart-Trio there is more in `vizpipe_trio.quart`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import trio

from ._page import DASHBOARD
from ._pipe import Pipe
from ._record import Recording, with_labels
from ._request import RequestError, check_back_pressure
from ._stream import JSON_HEADERS, LAST_WORDS_SECONDS, STREAM_HEADERS, EventStream

__all__ = ["EventStream", "EventStreamResponse", "RecordRequests"]

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

READS = frozenset({"GET", "HEAD", "OPTIONS", "QUERY"})
"""HTTP's methods that change nothing."""

MAX_TEXT = 2000
"""Characters that are kept of what a client says. An event that is too long is invalid: anybody could keep
a request of his out of the picture."""

REFUSALS = frozenset({401, 403})
FIRST_ERROR = 500

OWN_PATHS = (
    "/api/viz/events",
    "/api/viz/stats",
    "/viz/",
    *(f"/viz/{file.name}" for file in DASHBOARD.iterdir()),
)
"""What the paths of the blueprint end with, whatever its ``url_prefix`` and where it is mounted."""


class RecordRequests:
    """ASGI middleware that records every HTTP request of an app; see `Pipe.record`.

    In a Quart-Trio app, one line: ``app.asgi_app = RecordRequests(app.asgi_app, pipe)``.

    The subject is the path, without the query; the ID is the request's ``X-Request-ID``, if it has one;
    a method that changes something is a WRITE; 401 and 403 are DENIED. The method and the status are
    labels; so is ``error`` for a status of 500 and more, and ``cancelled`` if the response was not sent to
    its end. Of what the client says, 2,000 characters each are kept. The time is that until the end was
    sent. The app's own code adds what it knows, and its stages, by way of `current_recording`.

    WebSockets are not recorded: each is many requests, or none. In their handlers, record what is one
    by `Pipe.record`; the `current_recording` that they find goes nowhere. Nor are requests for the
    dashboard and its streams, behind whatever ``url_prefix``: they would be a picture of who looks at it.

    Args:
        app: The ASGI app.
        pipe: Where the events go. The app runs it.
        source: What the events say of where they come from.
        skip: Beginnings of more paths that are not recorded, such as that of an `EventStreamResponse`
            of your own: its time would be that for which somebody watches.

    Raises:
        TypeError: ``skip`` is one string.
    """

    def __init__(self, app: Any, pipe: Pipe, *, source: str = "", skip: Sequence[str] = ()) -> None:
        if isinstance(skip, str):
            raise TypeError(f"skip must be a sequence of beginnings of paths, not {skip!r}")
        self._app = app
        self._pipe = pipe
        self._source = source
        self._skip = tuple(skip)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request, or the app's whole life."""
        if (
            scope["type"] != "http"
            or scope["path"].startswith(self._skip)
            or scope["path"].endswith(OWN_PATHS)
        ):
            await self._app(scope, receive, send)
            return
        op: Literal["QUERY", "WRITE"] = "QUERY" if scope["method"] in READS else "WRITE"
        recording = self._pipe.record(
            op,
            request_id=_header(scope, b"x-request-id")[:MAX_TEXT],
            source=self._source,
            subject=scope["path"][:MAX_TEXT],
            labels=[scope["method"][:MAX_TEXT]],
        )
        with recording as request:
            response = _Response(request, send)
            await self._app(scope, receive, response.send)
            if not response.is_complete:
                request.labels = with_labels(request.labels, "cancelled")


class _Response:
    """A response on its way, and what it tells of its request."""

    def __init__(self, request: Recording, send: Send) -> None:
        self.is_complete = False
        self._request = request
        self._send = send

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            request = self._request
            if status in REFUSALS:
                request.status = "DENIED"
            outcome = [str(status), "error"] if status >= FIRST_ERROR else [str(status)]
            request.labels = with_labels(request.labels, *outcome)
        # Before it is sent: Quart-Trio is cancelled as soon as its last message is out.
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.is_complete = True
        await self._send(message)


def _header(scope: Any, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key.lower() == name:
            return str(value, "latin-1")
    return ""


class EventStreamResponse:
    """A response that is an event stream: an ASGI app for one request.

    The client is registered when the response begins, and off when it ends: with the pipe, or
    when the client leaves. Who may watch is up to the view. Serve the app by
    `vizpipe_trio.hypercorn.serve`, or inside `StreamGuard`: a client that stops reading can
    only be given up there.

    Over HTTP/2 it answers with 505: Hypercorn has no back-pressure there, so a slow client would
    cost memory without a bound, and neither side would learn of it.

    Args:
        stream: The stream, not entered yet.
        http2: Whether to stream over HTTP/2 all the same.
    """

    def __init__(self, stream: EventStream, *, http2: bool = False) -> None:
        self._stream = stream
        self._http2 = http2

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            if not self._http2:
                check_back_pressure(scope["http_version"])
        except RequestError as refusal:
            await send(_start(refusal.status, JSON_HEADERS))
            await send(_body(msgspec.json.encode({"error": str(refusal)})))
            return
        start = _start(200, STREAM_HEADERS)
        if scope["method"] == "HEAD":
            await send(start)
            await send(_body(b""))
            return
        is_ending = False

        async def until_it_leaves(scope: trio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if is_ending:  # Hypercorn says so before it has ended the response
                await trio.sleep(LAST_WORDS_SECONDS)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_it_leaves, nursery.cancel_scope)
            with self._stream as stream:
                await send(start)
                async for write in stream:
                    await send(_body(write, more=True))
            is_ending = True
            await send(_body(b""))
            nursery.cancel_scope.cancel()


def _start(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    pairs = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def _body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}

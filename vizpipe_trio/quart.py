"""The stream, the statistics and the dashboard as a blueprint for Quart-Trio::

    app = QuartTrio(__name__)
    pipe = Pipe()
    app.register_blueprint(viz_blueprint(pipe, token=os.environ["VIZ_TOKEN"]))
    app.asgi_app = StreamGuard(app.asgi_app, pipe)  # from vizpipe_trio.hypercorn

    @app.before_serving
    async def start():
        await app.nursery.start(pipe.run)

Needs the extra ``quart``: ``pip install 'vizpipe-trio[quart]'``.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType

import msgspec
import trio

try:
    from quart import Blueprint, Response, request
    from quart.wrappers.response import ResponseBody
except ImportError as _missing:
    raise ImportError("vizpipe_trio.quart needs Quart-Trio: pip install 'vizpipe-trio[quart]'") from _missing

from ._filter import parse_filter
from ._gate import Gate, address_of
from ._page import PAGE_HEADERS, PageFile, page_files
from ._pipe import Pipe
from ._places import Places
from ._request import RequestError, check_back_pressure, find_last_event_id, parse_query
from ._sse import preamble
from ._stream import JSON_HEADERS, STREAM_HEADERS, EventStream

__all__ = ["viz_blueprint"]

_Query = Sequence[tuple[str, str]]

RETRY_AFTER_SECONDS = 5
"""What a refused client is told to wait: longer than for a reconnect, since somebody
has to give up a place first."""


class _StreamBody(ResponseBody):
    """Quart's way to an `EventStream`, which takes its place only once it is served.

    Quart-Trio accepts no async iterator that is not an async generator, which must not
    have a cancel scope round a yield (PEP 789), but it does accept a `ResponseBody`: it
    is entered and left in the request's task, also when the client has gone. A place
    taken in the view would leak if the client went before that.
    """

    def __init__(self, stream: EventStream, places: Places, client: str | None) -> None:
        self._stream = stream
        self._places = places
        self._client = client
        self._entered = False

    async def __aenter__(self) -> AsyncIterator[bytes]:  # noqa: ASYNC124 - Quart's interface
        if self._places.full_for(self._client):
            # Somebody else took the last place since the view looked: the status has
            # gone out, so this client is told in the stream's own words.
            return _come_again()
        stream = self._stream.__enter__()
        self._places.take(self._client)
        self._entered = True
        return stream

    async def __aexit__(  # noqa: ASYNC124 - Quart's interface
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._entered:
            self._places.give_back(self._client)
            self._stream.__exit__(exc_type, exc_value, tb)


async def _come_again() -> AsyncIterator[bytes]:
    await trio.lowlevel.checkpoint()
    yield preamble(RETRY_AFTER_SECONDS * 1000)


def viz_blueprint(
    pipe: Pipe,
    *,
    token: str | None,
    max_clients: int = 1000,
    max_clients_per_address: int | None = None,
    heartbeat_interval: float = 15.0,
    http2: bool = False,
    url_prefix: str | None = None,
    title: str = "Pipeline",
    stages: Sequence[str] = (),
) -> Blueprint:
    """Return a blueprint that shows a pipe's events to browsers and other clients.

    - ``GET /api/viz/events``: the event stream. Filters are query parameters, each of
      which may be repeated: ``op``, ``status``, ``source``, ``actor_type``, ``label``.
      ``Last-Event-ID`` resumes from the pipe's history; a page that has to open a new
      EventSource, which sends no headers, says ``last_event_id`` in the query.
    - ``GET /api/viz/stats``: `Pipe.statistics` as JSON.
    - ``GET /viz/``: the dashboard.

    Errors are JSON, ``{"error": ...}``: 400 for a filter that does not exist (with
    ``allowed``), 401 for a wrong token, 403 for a client that is not on this machine
    when there is no token, 405 for another method, 503 with ``Retry-After`` when the
    pipe has ended, or was cancelled and is not run again yet, or all places are taken, 505
    for a stream over HTTP/2. A pipe that has not run yet is no error: its streams are silent
    until it does. What is asked for is bounded: 414 for a query string of more than 8 KiB,
    400 for more than 64 parameters, 413 for a request with a body.

    Other origins: no answer has a CORS header, so a page of another origin cannot read
    one unless your app adds such a header. With a token neither ``Origin`` nor ``Host`` is
    looked at. Without one, a request is refused whose ``Origin`` is not its ``Host``, that
    a browser says another site's page made, or whose ``Host`` is not ``localhost`` or a
    loopback address, as when a page's name was rebound to this machine.

    Args:
        pipe: The pipe. It is yours to run and to stop.
        token: What clients must send, as ``Authorization: Bearer`` or, since a browser's
            EventSource sends no headers, as ``?token=``. None, said explicitly, lets in
            clients on this machine only. With a proxy on this machine set a token: most
            proxies say what they are, and then nobody is let in, but some do not.
        max_clients: How many streams may be open at once, at least 1.
        max_clients_per_address: How many of them for one IP address, or for one /64 network
            of IPv6, at least 1. By default there is no such bound, because behind a proxy
            all clients have the proxy's address, unless a middleware sets the ASGI scope's.
        heartbeat_interval: Seconds of silence, more than 0, after which a stream sends a
            comment. Proxies commonly cut what is silent for 30 to 60 seconds.
        http2: Whether there are event streams over HTTP/2 and HTTP/3 too. Hypercorn takes all
            that it is given there, however little the client takes (0.18): memory grows
            without a bound, and a slow client's losses are never seen, so never told; and
            after ``keep_alive_max_requests`` on a connection its streams go silent. By
            default the stream is refused there, and the rest is served. Behind a proxy
            browsers have HTTP/2 all the same, since the proxy comes with HTTP/1.1.
        url_prefix: What all of the addresses above begin with, such as ``"/ops"``.
        title: The dashboard's heading. Like ``stages`` it is in the page, which is served
            without a token: only what it shows is guarded.
        stages: The stages' names in order, to be shown before the first event and in this
            order. By default, and for all others, the events say.

    Raises:
        TypeError: ``stages`` is not a sequence of strings.
        ValueError: The token is empty or does not fit a header, or a limit is too small.
    """
    places = Places(max_clients, max_clients_per_address)
    if not heartbeat_interval > 0:
        raise ValueError(f"heartbeat_interval must be more than 0 seconds, not {heartbeat_interval}")
    views = _Views(pipe, Gate(token), places, heartbeat_interval, http2=http2)
    blueprint = Blueprint("vizpipe", __name__, url_prefix=url_prefix)
    for path, view in (("/api/viz/events", views.events), ("/api/viz/stats", views.stats)):
        blueprint.add_url_rule(
            path,
            endpoint=view.__name__,
            view_func=partial(views.guarded, view),
            # All of them, so that a wrong one is answered in JSON as well.
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
            provide_automatic_options=False,
        )
    for file in page_files(title, stages, heartbeat_interval):
        # The page holds nothing secret, and its parts could not send a token.
        blueprint.add_url_rule(
            f"/viz/{file.path}",
            endpoint=f"page_{file.path.replace('.', '_')}",
            view_func=partial(_page, file),
        )
    blueprint.add_url_rule("/viz", endpoint="page_without_slash", view_func=_add_slash)
    return blueprint


class _Views:
    """What the blueprint answers with."""

    def __init__(
        self, pipe: Pipe, gate: Gate, places: Places, heartbeat_interval: float, *, http2: bool
    ) -> None:
        self._pipe = pipe
        self._gate = gate
        self._places = places
        self._heartbeat_interval = heartbeat_interval
        self._http2 = http2

    async def guarded(self, view: Callable[[_Query], Response]) -> Response:  # noqa: ASYNC124 - Quart would call a sync view in a thread
        """Answer with ``view``, if the request is let in and keeps to the bounds."""
        if request.method not in {"GET", "HEAD"}:
            return _error(405, f"{request.method} is not allowed here", {"Allow": "GET, HEAD"})
        try:
            query = parse_query(request.query_string)
            self._gate.check(request.scope, _first(query, "token"))
            return view([pair for pair in query if pair[0] != "token"])
        except RequestError as refusal:
            content = {"error": str(refusal)}
            if refusal.allowed is not None:
                return _json(refusal.status, {**content, "allowed": refusal.allowed}, refusal.headers)
            return _json(refusal.status, content, refusal.headers)

    def events(self, query: _Query) -> Response:
        """Answer with the event stream, or say why not."""
        if not self._http2:
            check_back_pressure(request.http_version)
        last_event_id = find_last_event_id(
            request.headers.get("Last-Event-ID"), _first(query, "last_event_id")
        )
        wanted = parse_filter(pair for pair in query if pair[0] != "last_event_id")
        if reason := self._pipe._closed_because:
            return _unavailable(reason)
        client = address_of(request.scope)
        if refusal := self._places.full_for(client):
            return _unavailable(refusal)
        if request.method == "HEAD":
            return _response(b"", 200, STREAM_HEADERS)
        stream = EventStream(
            self._pipe,
            filter=wanted,
            last_event_id=last_event_id,
            heartbeat_interval=self._heartbeat_interval,
        )
        response = _response(_StreamBody(stream, self._places, client), 200, STREAM_HEADERS)
        response.timeout = None  # Quart's RESPONSE_TIMEOUT would cut the stream
        return response

    def stats(self, _: _Query) -> Response:
        """Answer with the pipe's account."""
        return _json(200, self._pipe.statistics())


def _first(query: _Query, name: str) -> str | None:
    return next((value for key, value in query if key == name), None)


async def _page(file: PageFile) -> Response:  # noqa: ASYNC124 - as in guarded
    return _response(file.content, 200, {**PAGE_HEADERS, "Content-Type": file.content_type})


async def _add_slash() -> Response:  # noqa: ASYNC124 - as in guarded
    # Quart's own redirect is to a whole address, as the server sees it: behind a proxy without the path that
    # was stripped, and without TLS, for all that the query may have the token.
    location = f"viz/?{request.query_string.decode('latin-1')}"
    return _response(b"", 308, {**PAGE_HEADERS, "Location": location})


def _response(body: bytes | ResponseBody, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, headers)


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return _response(msgspec.json.encode(content), status, {**JSON_HEADERS, **(headers or {})})


def _error(status: int, message: str, headers: dict[str, str]) -> Response:
    return _json(status, {"error": message}, headers)


def _unavailable(message: str) -> Response:
    return _error(503, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})

"""The stream, the statistics and the dashboard as a blueprint for Quart-Trio.

    app = QuartTrio(__name__)
    pipe = Pipe()
    app.register_blueprint(viz_blueprint(pipe, token=os.environ["VIZ_TOKEN"]))
    app.asgi_app = StreamGuard(app.asgi_app, pipe)  # from vizpipe_trio.hypercorn

    @app.before_serving
    async def start():
        await app.nursery.start(pipe.run)

Needs the extra ``quart``: ``pip install 'vizpipe-trio[quart]'``.
"""

import mimetypes
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.resources import files
from types import TracebackType

import msgspec
import trio

try:
    from quart import Blueprint, Response, request
    from quart.wrappers.response import ResponseBody
except ImportError as _missing:
    raise ImportError("vizpipe_trio.quart needs Quart-Trio: pip install 'vizpipe-trio[quart]'") from _missing

from ._access import AccessError, check_loopback, check_token, check_token_setting
from ._filter import FilterError, parse_filter
from ._pipe import Pipe
from ._sse import preamble
from ._stream import STREAM_HEADERS, EventStream

__all__ = ["viz_blueprint"]

RETRY_AFTER_SECONDS = 5
"""What a refused client is told to wait: longer than for a reconnect, since somebody
has to give up a place first."""

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",  # the page's address may carry the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _Places:
    """How many streams may be open, and how many are."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    @property
    def full(self) -> bool:
        return self.taken >= self.limit


class _StreamBody(ResponseBody):
    """Quart's way to an `EventStream`, which takes its place only once it is served.

    Quart-Trio accepts no async iterator that is not an async generator, which must not
    have a cancel scope round a yield (PEP 789), but it does accept a `ResponseBody`: it
    is entered and left in the request's task, also when the client has gone. A place
    taken in the view would leak if the client went before that.
    """

    def __init__(self, stream: EventStream, places: _Places) -> None:
        self._stream = stream
        self._places = places
        self._entered = False

    async def __aenter__(self) -> AsyncIterator[bytes]:  # noqa: ASYNC124 - Quart's interface
        if self._places.full:
            # Somebody else took the last place since the view looked: the status has
            # gone out, so this client is told in the stream's own words.
            return _come_again()
        stream = self._stream.__enter__()
        self._places.taken += 1
        self._entered = True
        return stream

    async def __aexit__(  # noqa: ASYNC124 - Quart's interface
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._entered:
            self._places.taken -= 1
            self._stream.__exit__(exc_type, exc_value, tb)


async def _come_again() -> AsyncIterator[bytes]:
    await trio.lowlevel.checkpoint()
    yield preamble(RETRY_AFTER_SECONDS * 1000)


def viz_blueprint(
    pipe: Pipe,
    *,
    token: str | None,
    max_clients: int = 1000,
    heartbeat_interval: float = 15.0,
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
    pipe has ended or all places are taken. A pipe that is not running yet is no error:
    its streams are silent until it is.

    Args:
        pipe: The pipe. It is yours to run and to stop.
        token: What clients must send, as ``Authorization: Bearer`` or, since a browser's
            EventSource sends no headers, as ``?token=``. None, said explicitly, lets in
            clients on this machine only, and not through a proxy.
        max_clients: How many streams may be open at once, at least 1.
        heartbeat_interval: Seconds of silence, more than 0, after which a stream sends a
            comment. Proxies commonly cut what is silent for 30 to 60 seconds.

    Raises:
        ValueError: The token is empty or does not fit a header, or a limit is too small.
    """
    check_token_setting(token)
    if max_clients < 1:
        raise ValueError(f"max_clients must be at least 1, not {max_clients}")
    if not heartbeat_interval > 0:
        raise ValueError(f"heartbeat_interval must be more than 0 seconds, not {heartbeat_interval}")
    views = _Views(pipe, token, _Places(max_clients), heartbeat_interval)
    blueprint = Blueprint("vizpipe", __name__)
    for path, view in (("/api/viz/events", views.events), ("/api/viz/stats", views.stats)):
        blueprint.add_url_rule(
            path,
            endpoint=view.__name__,
            view_func=partial(views.guarded, view),
            # All of them, so that a wrong one is answered in JSON as well.
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
            provide_automatic_options=False,
        )
    for file in files("vizpipe_trio").joinpath("dashboard").iterdir():
        # The page holds nothing secret, and its parts could not send a token.
        blueprint.add_url_rule(
            "/viz/" if file.name == "index.html" else f"/viz/{file.name}",
            endpoint=f"page_{file.name.replace('.', '_')}",
            view_func=partial(_page, mimetypes.guess_type(file.name)[0], file.read_bytes()),
        )
    return blueprint


class _Views:
    """What the blueprint answers with."""

    def __init__(self, pipe: Pipe, token: str | None, places: _Places, heartbeat_interval: float) -> None:
        self._pipe = pipe
        self._token = token
        self._places = places
        self._heartbeat_interval = heartbeat_interval

    async def guarded(self, view: Callable[[], Response]) -> Response:  # noqa: ASYNC124 - Quart would call a sync view in a thread
        """Answer with ``view``, if the request is let in."""
        if request.method not in {"GET", "HEAD"}:
            return _error(405, f"{request.method} is not allowed here", {"Allow": "GET, HEAD"})
        try:
            self._check_access()
        except AccessError as refusal:
            return _error(refusal.status, str(refusal), refusal.headers)
        return view()

    def _check_access(self) -> None:
        if self._token is not None:
            authorization = request.headers.get("Authorization", "")
            check_token(self._token, authorization, request.args.get("token"))
        # Servers name the peer, or say None. Only Quart's test client leaves it out.
        elif "client" in request.scope:
            client = request.scope["client"]
            check_loopback(
                client[0] if client else None,
                {name.lower(): value for name, value in request.headers},
            )

    def events(self) -> Response:
        """Answer with the event stream, or say why not."""
        try:
            wanted = parse_filter(
                pair for pair in request.args.items(multi=True) if pair[0] not in {"token", "last_event_id"}
            )
        except FilterError as error:
            return _json(400, {"error": str(error), "allowed": error.allowed})
        if self._pipe.statistics().stopped:
            return _unavailable("the pipe has ended")
        if self._places.full:
            return _unavailable(f"all {self._places.limit} places are taken")
        if request.method == "HEAD":
            return _response(b"", 200, STREAM_HEADERS)
        stream = EventStream(
            self._pipe,
            filter=wanted,
            last_event_id=request.headers.get("Last-Event-ID") or request.args.get("last_event_id", ""),
            heartbeat_interval=self._heartbeat_interval,
        )
        response = _response(_StreamBody(stream, self._places), 200, STREAM_HEADERS)
        response.timeout = None  # Quart's RESPONSE_TIMEOUT would cut the stream
        return response

    def stats(self) -> Response:
        """Answer with the pipe's account."""
        return _json(200, self._pipe.statistics())


async def _page(content_type: str | None, data: bytes) -> Response:  # noqa: ASYNC124 - as in guarded
    return _response(data, 200, {**_PAGE_HEADERS, "Content-Type": f"{content_type}; charset=utf-8"})


def _response(body: bytes | ResponseBody, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, headers)


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})}
    return _response(msgspec.json.encode(content), status, headers)


def _error(status: int, message: str, headers: dict[str, str]) -> Response:
    return _json(status, {"error": message}, headers)


def _unavailable(message: str) -> Response:
    return _error(503, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})

"""The stream, the statistics and the dashboard as a blueprint for Quart-Trio.

    app = QuartTrio(__name__)
    pipe = Pipe()
    app.register_blueprint(viz_blueprint(pipe, token=os.environ["VIZ_TOKEN"]))

    @app.before_serving
    async def start():
        await app.nursery.start(pipe.run)

Needs the extra ``quart``: ``pip install 'vizpipe-trio[quart]'``.
"""

import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from types import TracebackType

import msgspec

try:
    from quart import Blueprint, Response, current_app, request
    from quart.wrappers.response import ResponseBody
except ImportError as error:
    raise ImportError(
        "vizpipe_trio.quart needs Quart-Trio: pip install 'vizpipe-trio[quart]'"
    ) from error

from ._access import Refusal, check_loopback, check_token, check_token_setting
from ._filter import FilterError, parse_filter
from ._pipe import Pipe
from ._sse import preamble
from ._stream import EventStream

__all__ = ["viz_blueprint"]

RETRY_AFTER_SECONDS = 5
"""What a refused client is told to wait: longer than for a reconnect, since somebody
has to give up a place first."""

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
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

    async def __aenter__(self) -> AsyncIterator[bytes]:
        if self._places.full:
            # Somebody else took the last place since the view looked: the status has
            # gone out, so this client is told in the stream's own words.
            return _come_again()
        self._places.taken += 1
        self._entered = True
        return await self._stream.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._entered:
            self._places.taken -= 1
            await self._stream.__aexit__(exc_type, exc_value, tb)


async def _come_again() -> AsyncIterator[bytes]:
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
      ``Last-Event-ID`` resumes from the pipe's history.
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
    places = _Places(max_clients)
    blueprint = Blueprint("vizpipe", __name__)

    def events() -> Response:
        try:
            wanted = parse_filter(
                (name, value) for name, value in request.args.items(multi=True) if name != "token"
            )
        except FilterError as error:
            return _error(400, str(error), allowed=error.allowed)
        if pipe.statistics().stopped:
            return _unavailable("the pipe has ended")
        if places.full:
            return _unavailable(f"all {max_clients} places are taken")
        if request.method == "HEAD":
            return _response(b"", 200, _STREAM_HEADERS)
        stream = EventStream(
            pipe,
            filter=wanted,
            last_event_id=request.headers.get("Last-Event-ID", ""),
            heartbeat_interval=heartbeat_interval,
        )
        response = _response(_StreamBody(stream, places), 200, _STREAM_HEADERS)
        response.timeout = None  # Quart's RESPONSE_TIMEOUT would cut the stream
        return response

    def stats() -> Response:
        return _json(200, pipe.statistics())

    for path, view in (("/api/viz/events", events), ("/api/viz/stats", stats)):
        blueprint.add_url_rule(
            path,
            endpoint=view.__name__,
            view_func=_guarded(view, token),
            # All methods, so that a wrong one is answered in JSON as well.
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            provide_automatic_options=False,
        )
    for name, file in _page_files().items():

        async def page(file: tuple[str, bytes] = file) -> Response:
            content_type, data = file
            return _response(data, 200, {**_PAGE_HEADERS, "Content-Type": content_type})

        path = "/viz/" if name == "index.html" else f"/viz/{name}"
        # The page holds nothing secret, and its parts cannot carry a token.
        blueprint.add_url_rule(path, endpoint=f"page_{name.replace('.', '_')}", view_func=page)
    return blueprint


def _page_files() -> dict[str, tuple[str, bytes]]:
    """Return the dashboard's files: name → (content type, bytes)."""
    pages: dict[str, tuple[str, bytes]] = {}
    for file in files("vizpipe_trio").joinpath("dashboard").iterdir():
        content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        if content_type.startswith("text/"):
            content_type += "; charset=utf-8"
        pages[file.name] = content_type, file.read_bytes()
    return pages


def _guarded(view: Callable[[], Response], token: str | None) -> Callable[[], Awaitable[Response]]:
    async def guarded() -> Response:
        if request.method not in ("GET", "HEAD"):
            return _error(405, f"{request.method} is not allowed here", headers={"Allow": "GET, HEAD"})
        try:
            if token is not None:
                check_token(
                    token, request.headers.get("Authorization", ""), request.args.get("token")
                )
            # Servers name the peer, or say None. Only Quart's test client leaves it out.
            elif "client" in request.scope:
                client = request.scope["client"]
                check_loopback(
                    client[0] if client else None,
                    request.headers.get("Host", ""),
                    {name.lower() for name in request.headers.keys()},
                )
        except Refusal as refusal:
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
            return _error(refusal.status, str(refusal), headers=headers)
        return view()

    return guarded


def _response(body: bytes | ResponseBody, status: int, headers: dict[str, str]) -> Response:
    response: Response = current_app.response_class(body, status, headers)
    return response


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return _response(
        msgspec.json.encode(content),
        status,
        {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})},
    )


def _error(
    status: int,
    message: str,
    *,
    headers: dict[str, str] | None = None,
    allowed: list[str] | None = None,
) -> Response:
    content: dict[str, object] = {"error": message}
    if allowed is not None:
        content["allowed"] = allowed
    return _json(status, content, headers)


def _unavailable(message: str) -> Response:
    return _error(503, message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})

"""The service: a search, notes, a page, and vizpipe-trio's blueprint beside them."""

from collections.abc import Sequence
from typing import Annotated, Any, get_args

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import BadRequest, HTTPException, UnsupportedMediaType

from vizpipe_trio import Pipe
from vizpipe_trio.quart import viz_blueprint

from . import corpus
from .corpus import Document
from .pipeline import Pipeline
from .policy import ActorType
from .stages import STAGES

LONGEST_QUERY = 500
LONGEST_REQUEST = 64 * 1024

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    # The page's address carries the stream's token.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Label = Annotated[str, msgspec.Meta(pattern="^[a-z]{1,20}$")]


class NoteBody(msgspec.Struct, forbid_unknown_fields=True):
    """What ``POST /notes`` takes."""

    title: Annotated[str, msgspec.Meta(pattern=r"\S", max_length=200)]
    text: Annotated[str, msgspec.Meta(pattern=r"\S", max_length=20_000)]
    labels: Annotated[list[Label], msgspec.Meta(max_length=8)] = []


def create_app(pipe: Pipe, *, token: str | None, documents: Sequence[Document] | None = None) -> QuartTrio:
    """Return the app.

    Args:
        pipe: Gets one event for each search and each note. The app runs it, and stops it at the end.
        token: Opens the event stream, its statistics and its dashboard; None for loopback clients only.
        documents: The corpus; by default, Python's language reference.
    """
    app = QuartTrio(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LONGEST_REQUEST
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 0  # else a browser shows yesterday's page for half a day
    app.register_blueprint(viz_blueprint(pipe, token=token, title="docsearch", stages=STAGES))
    pipeline = Pipeline(pipe)

    @app.before_serving
    async def start() -> None:
        await app.nursery.start(pipe.run)
        await pipeline.load(await trio.to_thread.run_sync(corpus.load) if documents is None else documents)

    @app.after_serving
    async def end() -> None:  # noqa: ASYNC124 - Quart runs what is not async in a thread
        pipe.stop()
        pipeline.close()

    @app.get("/")
    async def page() -> Response:
        response = await app.send_static_file("index.html")
        response.headers.update(PAGE_HEADERS)
        return response

    @app.get("/search")
    async def search() -> tuple[dict[str, Any], int]:
        outcome = await pipeline.search(query_from_request(), actor_from_request())
        answer, event = outcome.answer, outcome.event
        content = {
            "request_id": event.request_id,
            "query": event.subject,
            "status": answer.status,
            "answered_by": answer.stage,
            "total_ms": event.total_ms,
            "reason": answer.reason,
            "results": [
                {"title": result.title, "snippet": result.snippet, "labels": result.labels}
                for result in answer.results
            ],
        }
        return content, 403 if answer.status == "DENIED" else 200

    @app.post("/notes")
    async def add_note() -> tuple[dict[str, Any], int]:
        outcome = await pipeline.add_note(await note_from_request(), actor_from_request())
        answer, event = outcome.answer, outcome.event
        content = {"request_id": event.request_id, "status": answer.status, "reason": answer.reason}
        return content, 403 if answer.status == "DENIED" else 201

    @app.errorhandler(HTTPException)
    async def in_json(error: HTTPException) -> tuple[dict[str, Any], int, list[tuple[str, str]]]:  # noqa: ASYNC124
        headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
        return {"error": error.description}, error.code or 500, headers

    return app


def query_from_request() -> str:
    """Return what the request asks for."""
    query = request.args.get("q", "")
    if not query.strip():
        raise BadRequest("q is missing: GET /search?q=...")
    if len(query) > LONGEST_QUERY:
        raise BadRequest(f"q is {len(query)} characters long: at most {LONGEST_QUERY} are allowed")
    return query


def actor_from_request() -> ActorType:
    """Return who says they ask. A real service would know it from their credentials."""
    given = request.headers.get("X-Actor-Type", "user")
    allowed: tuple[ActorType, ...] = get_args(ActorType)
    for actor in allowed:
        if given == actor:
            return actor
    raise BadRequest(f"X-Actor-Type is {given!r}: it must be one of {', '.join(allowed)}")


async def note_from_request() -> Document:
    """Return the note in the request's body."""
    # A page of another site can post text/plain here without asking; JSON it can't.
    if not request.is_json:
        raise UnsupportedMediaType("a note is JSON: Content-Type: application/json")
    try:
        body = msgspec.json.decode(await request.get_data(), type=NoteBody)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"not a note: {error}") from error
    return Document(body.title, body.text, ("note", *body.labels))

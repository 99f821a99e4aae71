"""The example app: each stage answers what it should, and what it tells the pipe is true."""

import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from signal import SIGINT
from urllib.parse import unquote

import pytest
import trio
from quart.typing import TestClientProtocol as ClientProtocol  # pytest collects Test...
from support import connect, watch

from examples.docsearch import corpus, traffic
from examples.docsearch import pipeline as pipeline_module
from examples.docsearch.answer import Outcome
from examples.docsearch.app import create_app
from examples.docsearch.corpus import Document
from examples.docsearch.pipeline import Pipeline
from examples.docsearch.policy import ActorType
from vizpipe_trio import Event, Pipe, Subscription

DOCUMENTS = [
    Document("The for statement", "It is a loop over the items of an iterable.", ("statements",)),
    Document("The while statement", "It is a loop that ends when its test is false.", ("statements",)),
    Document("The break statement", "It leaves the loop that is nearest.", ("statements",)),
    Document("Dictionary displays", "Pairs of keys and values in braces.", ("expressions",)),
    Document("Frame objects", "They stand for execution frames.", ("types", "internals")),
    Document("Slice objects", "They stand for a part of a sequence.", ("types",)),
    Document("Method objects", "They stand for a function and its instance.", ("types",)),
    Document("Debugger Commands", "Breakpoints are set by line.", ("debugger",)),
]
STAGES = ["policy", "cache", "semantic", "lookup", "vector", "merge"]


@pytest.fixture
async def pipeline() -> AsyncGenerator[Pipeline]:
    pipeline = Pipeline(Pipe())
    await pipeline.load(DOCUMENTS)
    yield pipeline
    pipeline.close()


def titles(outcome: Outcome) -> list[str]:
    return [result.title for result in outcome.answer.results]


def answered_by(event: Event) -> list[str]:
    return [stage.name for stage in event.stages or () if stage.hit]


async def test_words_that_stand_in_several_documents_are_answered_by_the_lookup(pipeline: Pipeline) -> None:
    outcome = await pipeline.search("loop statement", "user")
    assert answered_by(outcome.event) == ["lookup"]
    assert sorted(titles(outcome)) == ["The break statement", "The for statement", "The while statement"]
    assert outcome.event.result_count == 3
    assert outcome.event.labels == ["statements"]


async def test_the_same_query_is_answered_by_the_cache(pipeline: Pipeline) -> None:
    first = await pipeline.search("loop", "user")
    second = await pipeline.search("loop", "user")
    assert answered_by(second.event) == ["cache"]
    assert second.answer.results == first.answer.results
    assert second.event.request_id != first.event.request_id


async def test_the_same_question_in_another_spelling_is_answered_by_the_semantic_cache(
    pipeline: Pipeline,
) -> None:
    first = await pipeline.search("loop statement", "user")
    second = await pipeline.search("What does a  STATEMENT, loop?", "user")
    assert answered_by(second.event) == ["semantic"]
    assert second.answer.results == first.answer.results
    again = await pipeline.search("What does a  STATEMENT, loop?", "user")
    assert answered_by(again.event) == ["cache"]


async def test_a_misspelled_word_is_answered_by_the_vectors(pipeline: Pipeline) -> None:
    outcome = await pipeline.search("dictonary", "user")
    assert answered_by(outcome.event) == ["vector"]
    assert titles(outcome)[0] == "Dictionary displays"


async def test_what_words_and_likeness_find_is_answered_by_the_merge(pipeline: Pipeline) -> None:
    outcome = await pipeline.search("breakpoints", "user")
    assert answered_by(outcome.event) == ["merge"]
    assert titles(outcome) == ["Debugger Commands", "The break statement"]


async def test_few_results_to_which_likeness_adds_none_are_the_lookups(pipeline: Pipeline) -> None:
    outcome = await pipeline.search("slice sequence", "user")
    assert answered_by(outcome.event) == ["lookup"]
    assert titles(outcome) == ["Slice objects"]
    assert outcome.event.stages is not None
    assert outcome.event.stages[STAGES.index("vector")].ms > 0


async def test_a_query_that_is_like_nothing_finds_nothing(pipeline: Pipeline) -> None:
    outcome = await pipeline.search("?!", "user")
    assert titles(outcome) == []
    assert outcome.answer.status == "ALLOWED"
    assert answered_by(outcome.event) == ["vector"]


async def test_a_refused_word_is_denied_in_any_spelling_before_anything_is_looked_up(
    pipeline: Pipeline,
) -> None:
    outcome = await pipeline.search("loop ＥＸＥＣ()", "user")
    assert outcome.answer.status == outcome.event.status == "DENIED"
    assert outcome.answer.reason == "'exec' is not for actors of type 'user'"
    assert titles(outcome) == []
    assert answered_by(outcome.event) == ["policy"]
    assert [stage.ms for stage in outcome.event.stages or ()][1:] == [0.0] * 5
    assert (await pipeline.search("loop exec", "system")).answer.status == "ALLOWED"


async def test_what_an_actor_may_not_see_is_left_out_and_told(pipeline: Pipeline) -> None:
    user = await pipeline.search("objects", "user")
    assert user.event.status == "FILTERED"
    assert sorted(titles(user)) == ["Method objects", "Slice objects"]
    system = await pipeline.search("objects", "system")
    assert system.event.status == "ALLOWED"
    assert sorted(titles(system)) == ["Frame objects", "Method objects", "Slice objects"]


async def test_no_cache_shows_one_actor_what_another_was_shown(pipeline: Pipeline) -> None:
    assert "Frame objects" in titles(await pipeline.search("objects", "system"))
    for query in ("objects", "OBJECTS", "objects"):
        outcome = await pipeline.search(query, "user")
        assert "Frame objects" not in titles(outcome)
        assert outcome.event.status == "FILTERED"


async def test_a_new_note_is_found_by_words_and_by_likeness_in_spite_of_the_caches(
    pipeline: Pipeline,
) -> None:
    for query in ("loop", "xylophone", "xylofone"):
        await pipeline.search(query, "user")
    written = await pipeline.add_note(Document("Xylophone", "Not a loop.", ("note",)), "user")
    assert (written.event.op, written.event.subject, written.event.stages) == ("WRITE", "Xylophone", None)
    assert "Xylophone" in titles(await pipeline.search("loop", "user"))
    assert titles(await pipeline.search("xylophone", "user")) == ["Xylophone"]
    likely = await pipeline.search("xylofone", "user")
    assert titles(likely) == ["Xylophone"]
    assert answered_by(likely.event) == ["vector"]


async def test_an_answer_from_before_a_note_is_not_kept_after_it(pipeline: Pipeline) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(pipeline.search, "loop", "user")
            note = Document(f"Note {number}", "On the loop.", ("note",))
            nursery.start_soon(pipeline.add_note, note, "user")
    found = await pipeline.search("loop note", "system")
    assert found.event.result_count == 10
    assert "Note 19" in titles(await pipeline.search("loop 19", "user"))


async def test_the_oldest_note_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "NOTES_CAPACITY", 2)
    pipeline = Pipeline(Pipe())
    await pipeline.load(DOCUMENTS)
    for name in ("alpha", "beta", "gamma"):
        await pipeline.add_note(Document(name, "A note of mine.", ("note",)), "user")
    assert titles(await pipeline.search("alpha", "user")) == []
    assert sorted(titles(await pipeline.search("note mine", "user"))) == ["beta", "gamma"]
    pipeline.close()


async def test_a_note_with_a_withheld_label_is_denied(pipeline: Pipeline) -> None:
    note = Document("Secret", "Of the interpreter.", ("note", "internals"))
    outcome = await pipeline.add_note(note, "user")
    assert (outcome.event.status, outcome.event.stages) == ("DENIED", None)
    assert titles(await pipeline.search("secret interpreter", "system")) == []


HOSTILE = [
    '"',
    "*",
    "loop AND",
    "NEAR(loop",
    "title:loop",
    "loop*",
    "-loop",
    "'",
    "\0",
    "\ud800",
    "(",
    "{loop}",
]


@pytest.mark.parametrize("query", HOSTILE)
async def test_no_query_is_a_syntax_error(pipeline: Pipeline, query: str) -> None:
    outcome = await pipeline.search(query, "user")
    assert outcome.answer.status == "ALLOWED"


QUESTIONS: list[tuple[str, ActorType]] = [
    ("loop", "user"),
    ("loop", "user"),
    ("Loop", "user"),
    ("slice", "user"),
    ("dictonary", "agent"),
    ("eval", "agent"),
]


async def test_each_query_has_six_stages_that_are_parts_of_its_total(pipeline: Pipeline) -> None:
    for query, actor in QUESTIONS:
        event = (await pipeline.search(query, actor)).event
        assert event.stages is not None
        assert [stage.name for stage in event.stages] == STAGES
        assert [stage.stage for stage in event.stages] == [1, 2, 3, 4, 5, 6]
        assert len(answered_by(event)) == 1
        assert all(stage.ms > 0 for stage in event.stages if stage.hit)
        assert 0 < sum(stage.ms for stage in event.stages) <= event.total_ms


def test_the_corpus_is_the_language_reference_in_labelled_sections() -> None:
    documents = corpus.load()
    assert documents == corpus.load()
    assert len(documents) > 200
    assert len({document.body for document in documents}) == len(documents)
    by_title = {document.title: document for document in documents}
    assert by_title['The "while" statement'].labels == ("statements", "grammar")
    assert by_title["object.__len__(self)"].labels == ("datamodel",)
    assert "internals" in by_title["Internal types: Frame objects"].labels


def test_traffic_with_a_seed_is_the_same_each_time_and_of_every_kind() -> None:
    first, second = (traffic.requests(DOCUMENTS, Random(7)) for _ in range(2))
    requests = [next(first) for _ in range(500)]
    assert requests == [next(second) for _ in range(500)]
    assert {request.method for request in requests} == {"GET", "POST"}
    queries = [unquote(request.path.partition("?q=")[2]) for request in requests]
    assert queries.count("The for statement") > 1
    for spelling in ("exec The", "THE FOR STATEMENT", "What does The"):
        assert any(query.startswith(spelling) for query in queries), spelling
    asked = set(queries) - {document.title for document in DOCUMENTS}
    assert any(sorted(query) == sorted("The break statement") for query in asked)  # misspelled


# The app, by Quart's test client.


@asynccontextmanager
async def running(
    documents: Sequence[Document] = DOCUMENTS,
) -> AsyncGenerator[tuple[ClientProtocol, Subscription]]:
    pipe = Pipe()
    app = create_app(pipe, token=None, documents=documents)
    async with app.test_app() as served:
        with pipe.subscribe() as subscription:
            yield served.test_client(), subscription


async def test_a_search_is_answered_and_its_event_is_emitted() -> None:
    async with running() as (client, subscription):
        response = await client.get("/search?q=loop", headers={"X-Actor-Type": "agent"})
        answer = await response.get_json()
        assert response.status_code == 200
        assert (answer["query"], answer["status"], answer["answered_by"]) == ("loop", "ALLOWED", "lookup")
        assert answer["results"][0].keys() == {"title", "snippet", "labels"}
        event = await anext(subscription)
        assert (event.request_id, event.total_ms) == (answer["request_id"], answer["total_ms"])
        assert (event.source, event.op, event.subject, event.actor_type) == (
            "docsearch", "QUERY", "loop", "agent",
        )  # fmt: skip
        assert event.result_count == len(answer["results"]) == 3


async def test_a_denied_search_is_forbidden_and_its_event_is_emitted() -> None:
    async with running() as (client, subscription):
        response = await client.get("/search?q=eval")
        assert response.status_code == 403
        answer = await response.get_json()
        assert (answer["status"], answer["results"]) == ("DENIED", [])
        assert (await anext(subscription)).status == "DENIED"


async def test_a_posted_note_is_written_and_found() -> None:
    async with running() as (client, subscription):
        note = {"title": "Xylophone", "text": "An instrument.", "labels": ["music"]}
        response = await client.post("/notes", json=note)
        assert response.status_code == 201
        event = await anext(subscription)
        assert (event.op, event.subject, event.stages) == ("WRITE", "Xylophone", None)
        found = await (await client.get("/search?q=instrument")).get_json()
        [result] = found["results"]
        assert result == {"title": "Xylophone", "snippet": "An instrument.", "labels": ["note", "music"]}
        refused = await client.post("/notes", json=note | {"labels": ["internals"]})
        assert refused.status_code == 403


@pytest.mark.parametrize(
    ("path", "headers", "problem"),
    [
        ("/search", {}, "q is missing"),
        ("/search?q=%20", {}, "q is missing"),
        (f"/search?q={'a' * 501}", {}, "at most 500"),
        ("/search?q=a", {"X-Actor-Type": "root"}, "user, agent, system"),
    ],
)
async def test_a_search_that_makes_no_sense_is_a_400_that_says_why(
    path: str, headers: dict[str, str], problem: str
) -> None:
    async with running() as (client, subscription):
        response = await client.get(path, headers=headers)
        assert response.status_code == 400
        assert problem in (await response.get_json())["error"]
        assert subscription.queued == 0


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not a note"),
        (b"[]", "Expected `object`"),
        (b'{"title": "a"}', "missing required field `text`"),
        (b'{"title": "a", "text": 1}', "$.text"),
        (b'{"title": " ", "text": "b"}', "$.title"),
        (b'{"title": "a", "text": "b", "labels": ["x y"]}', "$.labels[0]"),
        (b'{"title": "a", "text": "b", "tags": []}', "unknown field `tags`"),
        (b'{"title": "a", "text": "\\ud800"}', "not a note"),
        (b'{"title": "a", "text": "\xff"}', "not a note"),
    ],
)
async def test_a_body_that_is_no_note_is_a_400_that_says_why(body: bytes, problem: str) -> None:
    async with running() as (client, _):
        response = await client.post("/notes", data=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert problem in (await response.get_json())["error"]


async def test_a_note_that_is_no_json_or_too_long_is_refused_in_json() -> None:
    async with running() as (client, _):
        plain = await client.post("/notes", data=b'{"title": "a", "text": "b"}')
        assert plain.status_code == 415
        assert "application/json" in (await plain.get_json())["error"]
        endless = await client.post("/notes", json={"title": "a", "text": "b" * 70_000})
        assert endless.status_code == 413
        assert (await endless.get_json()).keys() == {"error"}


async def test_the_page_runs_nothing_but_its_own_files() -> None:
    async with running() as (client, _):
        response = await client.get("/")
        page = await response.get_data(as_text=True)
        assert "default-src 'none'; script-src 'self'" in response.headers["Content-Security-Policy"]
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|//", page)
        for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
            assert (await client.get(path)).status_code == 200
    static = Path(corpus.__file__).parent / "static"
    for script in static.glob("*.js"):
        assert "innerHTML" not in script.read_text()


# The program, as it is started by hand.


@asynccontextmanager
async def started(*arguments: str) -> AsyncGenerator[trio.Process]:
    """Start the example, for at most 90 seconds."""
    command = [sys.executable, "-m", "examples.docsearch", *arguments]
    with trio.fail_after(90):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                for stream in (process.stdout, process.stderr):
                    assert stream is not None
                    await stream.aclose()


async def first_lines(process: trio.Process) -> str:
    """Return what the program prints before it waits."""
    printed = b""
    assert process.stdout is not None
    while not printed.endswith(b"Ctrl-C stops it.\n"):
        printed += await process.stdout.receive_some() or pytest.fail(f"it ended: {printed!r}")
    return printed.decode()


async def errors_of(process: trio.Process) -> str:
    assert process.stderr is not None
    return b"".join([bytes(chunk) async for chunk in process.stderr]).decode()


async def test_the_program_prints_its_address_shows_a_search_and_ends_on_ctrl_c() -> None:
    async with started("--port", "0", "--traffic", "50") as process:
        printed = await first_lines(process)
        found = re.match(r"Search: +(http://127\.0\.0\.1:\d+)/\?token=([\w-]{43})\n", printed)
        assert found is not None, printed
        url, token = found.groups()
        async with watch(url, f"?token={token}&actor_type=system") as viewer, connect(url) as client:
            await client.request("/search?q=xylophone", b"X-Actor-Type: system")
            assert (await client.head())[0] == 200
            while b"xylophone" not in (frame := await viewer.frame()):
                assert frame
            assert re.findall(rb'"name":"(\w+)"', frame) == [name.encode() for name in STAGES]
            process.send_signal(SIGINT)
            assert (await process.wait(), await errors_of(process)) == (0, "")


async def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with started("--port", str(port)) as process:
            assert await process.wait() == 1
            assert (
                await errors_of(process) == f"Can't listen on 127.0.0.1 port {port}: Address already in use\n"
            )

"""The search pipeline: policy, cache, semantic, lookup, vector, merge."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

import trio

from vizpipe_trio import Pipe, Recording

from . import policy
from .answer import Answer, Outcome, Result
from .cache import Cache
from .corpus import Document
from .index import Index
from .policy import ActorType
from .ranking import first_page, merged
from .stages import STAGES, Stage
from .vectors import Vectors
from .words import Terms, terms_of

SOURCE = "docsearch"
CANDIDATES = 30  # so that a page is full even when policy takes some away
ENOUGH = 3  # results of the lookup that make the vector stage unnecessary
CACHE_CAPACITY = 512  # answers in each of the two caches
NOTES_CAPACITY = 1000  # then the newest note takes the place of the oldest


class Pipeline:
    """Answers queries and takes in notes. Its methods run on the Trio thread; the heavy work does not.

    The pipe gets one event for each search and each note.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        # Who asks is part of the keys: what one actor was shown may be withheld from another.
        self._exact: Cache[tuple[ActorType, str], Answer] = Cache(CACHE_CAPACITY)
        self._normalised: Cache[tuple[ActorType, Terms], Answer] = Cache(CACHE_CAPACITY)
        self._notes = 0
        self._edition = 0  # counts what was taken in

    async def load(self, documents: Sequence[Document]) -> None:
        """Take in the corpus, which is not empty. Once, and before anything else."""
        self._first_note = len(documents)
        self._index = Index()
        self._vectors = Vectors(len(documents) + NOTES_CAPACITY)
        await self._index.put(dict(enumerate(documents)))
        await self._vectors.put(dict(enumerate(documents)))

    def close(self) -> None:
        """Close the index. Nothing may be under way."""
        self._index.close()

    async def search(self, query: str, actor: ActorType) -> Outcome:
        """Answer ``query``. Its event has all six stages; those that weren't needed took 0 ms."""
        recording = self._pipe.record(
            "QUERY",
            request_id=uuid.uuid4().hex,
            source=SOURCE,
            subject=query,
            actor_type=actor,
            stages=STAGES,
        )
        with recording as request:
            answer = await self._answer(query, actor, request)
            request.status = answer.status
            request.labels = sorted({label for result in answer.results for label in result.labels})
            request.result_count = len(answer.results)
        return Outcome(answer, request.event)

    async def add_note(self, note: Document, actor: ActorType) -> Outcome:
        """Make ``note`` findable, unless policy withholds one of its labels from ``actor``."""
        recording = self._pipe.record(
            "WRITE",
            request_id=uuid.uuid4().hex,
            source=SOURCE,
            subject=note.title,
            actor_type=actor,
            labels=note.labels,
        )
        with recording as request:
            if withheld := policy.withheld(note.labels, actor):
                reason = f"the label {withheld[0]!r} is not for actors of type {actor!r}"
                answer = Answer("policy", "DENIED", reason=reason)
            else:
                # A client that leaves must not leave half a note: all of it is a few milliseconds' work.
                with trio.CancelScope(shield=True):
                    await self._take_in(note)
                answer = Answer("policy", "ALLOWED")
            request.status = answer.status
        return Outcome(answer, request.event)

    async def _take_in(self, note: Document) -> None:
        slot = self._first_note + self._notes % NOTES_CAPACITY
        self._notes += 1
        await self._index.put({slot: note})
        await self._vectors.put({slot: note})
        self._edition += 1
        self._exact.clear()
        self._normalised.clear()

    async def _answer(self, query: str, actor: ActorType, request: Recording) -> Answer:
        with request.stage("policy") as stage:
            reason = policy.refusal(query, actor)
            stage.hit = reason is not None
        if reason is not None:
            return Answer("policy", "DENIED", reason=reason)

        with request.stage("cache") as stage:
            known = self._exact.find((actor, query))
            stage.hit = known is not None
        if known is not None:
            return replace(known, stage="cache")

        with request.stage("semantic") as stage:
            terms = terms_of(query)
            known = self._normalised.find((actor, terms))
            stage.hit = known is not None
        if known is not None:
            self._exact.keep((actor, query), known)
            return replace(known, stage="semantic")

        edition = self._edition
        name, candidates = await self._find(terms, request)
        with request.stage("policy"):
            status, page = first_page(candidates, actor)
        answer = Answer(name, status, page)
        if edition == self._edition:  # else a note came in meanwhile, and the answer is an old one
            self._exact.keep((actor, query), answer)
            self._normalised.keep((actor, terms), answer)
        return answer

    async def _find(self, terms: Terms, request: Recording) -> tuple[Stage, Iterable[Result]]:
        with request.stage("lookup") as lookup:
            found = await self._index.search(terms, CANDIDATES)
            lookup.hit = len(found) >= ENOUGH
        if lookup.hit:
            return "lookup", found

        with request.stage("vector") as vector:
            near = await self._vectors.nearest(" ".join(terms), CANDIDATES)
            vector.hit = not found  # the last resort: if nothing is near either, that is the answer
        if vector.hit:
            return "vector", near
        if {result.slot for result in near} <= {result.slot for result in found}:
            lookup.hit = True  # the vectors add nothing to it
            return "lookup", found

        with request.stage("merge") as merge:
            merge.hit = True
            return "merge", merged(found, near)

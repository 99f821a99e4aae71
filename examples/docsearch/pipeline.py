"""The search pipeline: policy, cache, semantic, lookup, vector, merge."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from vizpipe_trio import Event

from . import policy
from .cache import Cache
from .corpus import Document
from .index import Index
from .policy import ActorType
from .stages import Stage, StageClock
from .vectors import Vectors
from .words import terms

SOURCE = "docsearch"
PAGE = 10  # results in an answer
CANDIDATES = 30  # so that a page is full even when policy takes some away
ENOUGH = 3  # results of the lookup that make the vector stage unnecessary
CACHED_ANSWERS = 512  # in each of the two caches
NOTES_CAPACITY = 1000  # then the oldest note makes room for the newest


@dataclass(frozen=True, slots=True)
class Result:
    """A document that was found, as the client sees it."""

    title: str
    snippet: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query was answered with, and by which stage."""

    stage: Stage
    status: Literal["ALLOWED", "FILTERED", "DENIED"]
    results: tuple[Result, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer for the client, and the event for the pipe."""

    answer: Answer
    event: Event


class Pipeline:
    """Answers queries and takes notes. All methods run on the Trio thread; the heavy work does not."""

    def __init__(self) -> None:
        self._index = Index()
        self._documents: dict[int, Document] = {}
        self._first_note = self._notes = 0
        # Who asks is part of both keys: what one actor was shown may be withheld from another.
        self._exact: Cache[tuple[ActorType, str], Answer] = Cache(CACHED_ANSWERS)
        self._normalised: Cache[tuple[ActorType, tuple[str, ...]], Answer] = Cache(CACHED_ANSWERS)

    async def load(self, documents: Sequence[Document]) -> None:
        """Take in the corpus. Once, before the first query."""
        self._documents = dict(enumerate(documents))
        self._first_note = len(documents)
        self._vectors = Vectors(len(documents) + NOTES_CAPACITY)
        await self._index.put(self._documents)
        await self._vectors.put(self._documents)

    def close(self) -> None:
        """Close the index. Nothing may be under way."""
        self._index.close()

    async def add_note(self, note: Document, actor: ActorType) -> Outcome:
        """Make ``note`` findable, unless policy keeps its labels from ``actor``; the caches are emptied."""
        asked, clock = datetime.now(UTC), StageClock()
        if refused := policy.withheld(note.labels, actor):
            answer = Answer("policy", "DENIED", reason=f"the label {refused[0]!r} is not for {actor!r}")
        else:
            slot = self._first_note + self._notes % NOTES_CAPACITY
            self._notes += 1
            await self._index.put({slot: note})
            await self._vectors.put({slot: note})
            self._documents[slot] = note
            self._exact.clear()
            self._normalised.clear()
            answer = Answer("policy", "ALLOWED")
        return Outcome(answer, ...)

"""Nearness by spelling: hashed character n-grams and their cosine, in numpy.

There is no model behind it. Words that share most of their letters share most of their n-grams, so a
misspelled query still lies near what it meant.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import trio

from .answer import Result
from .corpus import Document
from .words import words

Floats = npt.NDArray[np.float32]

GRAM_SIZES = (3, 4)
BUCKET_BITS = 12  # 4096 buckets: two common n-grams seldom share one
BUCKETS = 1 << BUCKET_BITS
TITLE_WEIGHT = 4.0  # a title says in five words what the body says in five hundred
FARTHEST = 0.12  # a cosine below this is a likeness by chance,
FARTHEST_OF_NEAREST = 0.5  # and so is what is only half as near as the nearest
SNIPPET_LENGTH = 200

# 2**64 divided by the golden ratio: Knuth's multiplicative hash. Python's own `hash` of a string would
# be another one in each process.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Vectors:
    """Finds documents by likeness. As in `Index`, a worker thread does the work, one call at a time."""

    def __init__(self, capacity: int) -> None:
        self._rows = np.zeros((capacity, BUCKETS), np.float32)
        self._documents: dict[int, Document] = {}
        self._rarity = np.ones(BUCKETS, np.float32)
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def put(self, documents: Mapping[int, Document]) -> None:
        """Store documents by slot. The first ones stored teach it which n-grams are rare."""
        await trio.to_thread.run_sync(self._put, documents, limiter=self._one_at_a_time)

    async def nearest(self, text: str, limit: int) -> list[Result]:
        """Return the documents most like ``text``, nearest first; none if nothing is near."""
        return await trio.to_thread.run_sync(self._nearest, text, limit, limiter=self._one_at_a_time)

    def _put(self, documents: Mapping[int, Document]) -> None:
        weights = {slot: document_weights(document) for slot, document in documents.items()}
        if not self._documents:
            held_by = np.sum([weight > 0 for weight in weights.values()], axis=0)
            self._rarity = np.log((1 + len(weights)) / (1 + held_by)).astype(np.float32)
        for slot, weight in weights.items():
            self._rows[slot] = unit(weight * self._rarity)
            self._documents[slot] = documents[slot]

    def _nearest(self, text: str, limit: int) -> list[Result]:
        used = len(self._documents)  # slots are given out from 0 up
        cosines: Floats = self._rows[:used] @ unit(gram_counts(text) * self._rarity)
        order = np.argsort(-cosines, kind="stable")[:limit]
        farthest = max(FARTHEST, FARTHEST_OF_NEAREST * cosines[order[0]])
        return [self._result(int(slot)) for slot in order if cosines[slot] >= farthest]

    def _result(self, slot: int) -> Result:
        document = self._documents[slot]
        start = " ".join(document.body.split())
        snippet = start if len(start) <= SNIPPET_LENGTH else start[:SNIPPET_LENGTH] + "…"
        return Result(slot, document.title, snippet, document.labels)


def document_weights(document: Document) -> Floats:
    """Return how much each bucket counts in ``document``; the root keeps a repeated word from ruling it."""
    title, body = gram_counts(document.title), gram_counts(document.body)
    return np.float32(TITLE_WEIGHT) * np.sqrt(title) + np.sqrt(body)


def gram_counts(text: str) -> Floats:
    """Count the n-grams of the words of ``text``, each in the bucket that its hash names."""
    # Code points and not bytes, or a letter beyond ASCII would weigh double. "replace": a lone surrogate.
    encoded = f" {' '.join(words(text))} ".encode("utf-32-le", "replace")
    codes = np.frombuffer(encoded, np.uint32).astype(np.uint64)
    counts = np.zeros(BUCKETS, np.float32)
    for size in GRAM_SIZES:
        hashes = np.zeros(max(len(codes) - size + 1, 0), np.uint64)
        for offset in range(size):
            hashes = (hashes ^ codes[offset : offset + len(hashes)]) * MULTIPLIER  # modulo 2**64
        buckets = (hashes >> np.uint64(64 - BUCKET_BITS)).astype(np.intp)
        counts += np.bincount(buckets, minlength=BUCKETS).astype(np.float32)
    return counts


def unit(vector: Floats) -> Floats:
    """Return ``vector`` at length one; what has no length stays as it is."""
    length = np.linalg.norm(vector).astype(np.float32)
    return vector / length if length else vector

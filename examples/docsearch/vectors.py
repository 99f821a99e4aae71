"""Nearness by spelling: hashed character n-grams and their cosine, in numpy.

There is no model behind it. Words that share most of their letters share most of their n-grams, so a
misspelled query still lies near what it meant.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import trio

from .corpus import Document
from .words import words

Floats = npt.NDArray[np.float32]

GRAM_SIZES = (3, 4)
DIMENSIONS = 4096  # buckets; enough that two common n-grams seldom share one
TITLE_WEIGHT = 6.0
FARTHEST = 0.15  # a cosine below this is a likeness by chance

# Knuth's multiplicative hash. Python's own `hash` of a string differs from process to process.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Vectors:
    """Finds documents by likeness. As in `Index`, the work is done in a worker thread, one at a time."""

    def __init__(self, capacity: int) -> None:
        self._rows = np.zeros((capacity, DIMENSIONS), np.float32)
        self._used = 0
        self._rarity = np.ones(DIMENSIONS, np.float32)
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def put(self, documents: Mapping[int, Document]) -> None:
        """Store documents by slot; what is rare is learned from the first ones stored."""
        await trio.to_thread.run_sync(self._put, documents, limiter=self._one_at_a_time)

    async def nearest(self, text: str, limit: int) -> list[int]:
        """Return the slots of the documents most like ``text``, nearest first; none if nothing is near."""
        return await trio.to_thread.run_sync(self._nearest, text, limit, limiter=self._one_at_a_time)

    def _put(self, documents: Mapping[int, Document]) -> None:
        counts = {slot: self._weights(document) for slot, document in documents.items()}
        if not self._used:
            held_by = np.sum([count > 0 for count in counts.values()], axis=0)
            self._rarity = np.log((1 + len(counts)) / (1 + held_by)).astype(np.float32)
        for slot, count in counts.items():
            self._rows[slot] = unit(count * self._rarity)
            self._used = max(self._used, slot + 1)

    def _weights(self, document: Document) -> Floats:
        return TITLE_WEIGHT * np.sqrt(gram_counts(document.title)) + np.sqrt(gram_counts(document.body))

    def _nearest(self, text: str, limit: int) -> list[int]:
        cosines = self._rows[: self._used] @ unit(gram_counts(text) * self._rarity)
        best = np.argsort(-cosines, kind="stable")[:limit]
        return [int(slot) for slot in best if cosines[slot] >= FARTHEST]


def gram_counts(text: str) -> Floats:
    """Count the n-grams of the words of ``text``, each in the bucket that its hash names."""
    codes = np.frombuffer(f" {' '.join(words(text))} ".encode("utf-32-le"), np.uint32).astype(np.uint64)
    counts = np.zeros(DIMENSIONS, np.float32)
    for size in GRAM_SIZES:
        hashes = np.zeros(max(len(codes) - size + 1, 0), np.uint64)
        for offset in range(size):
            hashes = (hashes ^ codes[offset : offset + len(hashes)]) * MULTIPLIER  # wraps round, as it should
        counts += np.bincount(hashes >> np.uint64(52), minlength=DIMENSIONS).astype(np.float32)
    return counts


def unit(vector: Floats) -> Floats:
    """Return ``vector`` at length one, or as it is if it has no length."""
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector

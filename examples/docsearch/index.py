"""The full-text index: SQLite's FTS5, in memory, off the Trio thread."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import trio

from .answer import Result
from .corpus import Document

# Porter's stemmer lets "statement" find "statements".
CREATE = """
    CREATE VIRTUAL TABLE documents USING fts5(title, body, labels UNINDEXED, tokenize = 'porter unicode61')
"""
# A rowid that exists is replaced: a slot can be used again.
PUT = "INSERT OR REPLACE INTO documents(rowid, title, body, labels) VALUES (?, ?, ?, ?)"
# A word in the title counts as much as eight in the body.
SEARCH = """
    SELECT rowid, title, snippet(documents, 1, '', '', '…', 32), labels
    FROM documents WHERE documents MATCH ? ORDER BY bm25(documents, 8.0, 1.0), rowid LIMIT ?
"""


class Index:
    """Finds documents by their words.

    The work is done in a worker thread. A SQLite connection does one thing at a time, so a limiter of one
    makes the callers queue in Trio, where they can be cancelled, and not in threads that wait for its lock.
    """

    def __init__(self) -> None:
        # Trio takes any worker thread that is free; the limiter is what keeps two from meeting.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(CREATE)
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def put(self, documents: Mapping[int, Document]) -> None:
        """Store documents by slot, each in place of the one that had its slot before."""
        rows = [(slot, d.title, d.body, " ".join(d.labels)) for slot, d in documents.items()]
        await trio.to_thread.run_sync(self._put, rows, limiter=self._one_at_a_time)

    async def search(self, terms: Sequence[str], limit: int) -> list[Result]:
        """Return the documents that have all of ``terms``, best first."""
        return await trio.to_thread.run_sync(self._search, terms, limit, limiter=self._one_at_a_time)

    def close(self) -> None:
        """Close the connection. Nothing may be under way."""
        self._connection.close()

    def _put(self, rows: Iterable[tuple[int, str, str, str]]) -> None:
        with self._connection:
            self._connection.executemany(PUT, rows)

    def _search(self, terms: Sequence[str], limit: int) -> list[Result]:
        if not terms:
            return []  # MATCH '' is a syntax error
        rows = self._connection.execute(SEARCH, (match_expression(terms), limit))
        return [
            Result(slot, title, " ".join(snippet.split()), tuple(labels.split()))
            for slot, title, snippet, labels in rows
        ]


def match_expression(terms: Iterable[str]) -> str:
    """Return the FTS5 query for all of ``terms``: in quotes, where AND, NEAR and * are words like others."""
    return " ".join('"' + term.replace('"', '""') + '"' for term in terms)

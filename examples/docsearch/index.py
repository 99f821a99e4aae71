"""The full-text index: SQLite's FTS5, in memory, off the Trio thread."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import trio

from .corpus import Document

# Porter's stemmer lets "statement" find "statements".
CREATE = "CREATE VIRTUAL TABLE documents USING fts5(title, body, tokenize = 'porter unicode61')"
# A rowid that exists is replaced: a slot can be used again.
PUT = "INSERT OR REPLACE INTO documents(rowid, title, body) VALUES (?, ?, ?)"
# A word in the title counts as much as eight in the body.
SEARCH = """
    SELECT rowid, snippet(documents, 1, '', '', '…', 32)
    FROM documents WHERE documents MATCH ? ORDER BY bm25(documents, 8.0, 1.0), rowid LIMIT ?
"""


class Index:
    """Finds documents by their words.

    The methods are coroutines that do their work in a worker thread. A SQLite connection can only do one
    thing at a time, so a limiter of one makes its callers queue in Trio, where they can be cancelled,
    instead of in threads that wait for SQLite's lock.
    """

    def __init__(self) -> None:
        # Trio takes any worker thread that is free; the limiter is what keeps them from meeting.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(CREATE)
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def put(self, documents: Mapping[int, Document]) -> None:
        """Store documents by slot, each in place of the one that had its slot before."""
        rows = [(slot, document.title, document.body) for slot, document in documents.items()]
        await trio.to_thread.run_sync(self._put, rows, limiter=self._one_at_a_time)

    async def search(self, terms: Sequence[str], limit: int) -> list[tuple[int, str]]:
        """Return slot and snippet of the documents that have all of ``terms``, best first."""
        return await trio.to_thread.run_sync(self._search, terms, limit, limiter=self._one_at_a_time)

    def close(self) -> None:
        """Close the connection. Nothing may be under way."""
        self._connection.close()

    def _put(self, rows: Iterable[tuple[int, str, str]]) -> None:
        with self._connection:
            self._connection.executemany(PUT, rows)

    def _search(self, terms: Sequence[str], limit: int) -> list[tuple[int, str]]:
        if not terms:
            return []  # MATCH '' is a syntax error
        return self._connection.execute(SEARCH, (match_expression(terms), limit)).fetchall()


def match_expression(terms: Iterable[str]) -> str:
    """Return an FTS5 query for documents with all of ``terms``: quoted, so that AND, NEAR or * are just words."""
    return " ".join('"' + term.replace('"', '""') + '"' for term in terms)

"""The words of a query, and which of them carry its meaning."""

import re
import unicodedata

Terms = tuple[str, ...]

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of ``text`` in order; case and full-width letters make no difference."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


# Words that make a sentence of a query and find nothing. None of them is a keyword of Python's.
FILLERS = frozenset(words("a an are be can do does how i it of on that the this to what when why you"))


def terms_of(query: str) -> Terms:
    """Return what ``query`` asks for: its words without fillers, each once, sorted.

    Two queries with the same terms are the same question, so everything after the semantic cache
    sees only the terms: else its answer would depend on who asked first.
    """
    distinct = set(words(query))
    return tuple(sorted(distinct - FILLERS or distinct))

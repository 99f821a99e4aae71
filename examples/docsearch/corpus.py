"""The corpus: the sections of Python's own language reference.

``pydoc_data.topics`` is what ``help("if")`` shows, and every Python has it. Its 80 topics are
long, so they are cut where the reference itself cuts them: at each heading and at each signature
that has a description of its own, such as ``str.split(...)``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pydoc_data.topics import topics

# The underlines of the reference's headings, from the topic's own title down.
UNDERLINES = "*=-~^"
HEADING = rf"(?P<heading>\S.*)\n(?P<line>[{re.escape(UNDERLINES)}])(?P=line){{2,}}\n"
# One or more signatures on lines of their own, and the indented text that describes them.
SIGNATURES = r"(?P<signatures>(?:(?:class )?[a-z][\w.]+\(.*\)\n)+)(?=\n? {3}\S)"
CUT = re.compile(rf"^(?:{HEADING}|{SIGNATURES})", re.MULTILINE)

# The kind of a section is the first of these that its topic's title speaks of; or "language".
KINDS = (
    ("debugger", re.compile(r"Debugger")),
    ("datamodel", re.compile(r"Special|Emulating|Context Managers|[Cc]ustomiz|Attributes")),
    ("statements", re.compile(r"statement|definition|Coroutine")),
    ("types", re.compile(r"[Tt]ype|Object|Methods|Modules|Functions")),
    (
        "expressions",
        re.compile(
            r"[Oo]perat|[Ll]iteral|display|[Ee]xpression|Calls|Slicing|Subscript|Lambda|reference"
            r"|conversion|Comparison|Truth"
        ),
    ),
    ("lexical", re.compile(r"[Ii]dentifier|Format String")),
)
# Labels beside the kind: a body with a rule of the grammar, a title about the interpreter's own objects.
GRAMMAR = re.compile(r"::=")
INTERNALS = re.compile(r"\b(code|frame|traceback) ?objects?\b", re.IGNORECASE)

# Headings are followed by sentences; what is shorter than this is a bare "Added in version 3.5."
SHORTEST_BODY = 40


@dataclass(frozen=True, slots=True)
class Document:
    """What can be found: a section of the reference, or somebody's note."""

    title: str
    body: str
    labels: tuple[str, ...]


def load() -> list[Document]:
    """Cut all topics into documents, always in the same order. Takes some milliseconds of CPU time."""
    documents: dict[str, Document] = {}
    for name in sorted(topics):
        for document in sections(topics[name]):
            # "if" is a topic, and a section of the topic "compound": the first one stays.
            documents.setdefault(document.body, document)
    return list(documents.values())


def sections(topic: str) -> Iterator[Document]:
    """Yield the sections of one topic, top to bottom."""
    cuts = list(CUT.finditer(topic))
    headings: list[str] = []
    for cut, following in zip(cuts, [*cuts[1:], None], strict=True):
        end = following.start() if following else len(topic)
        if cut["heading"]:
            level = UNDERLINES.index(cut["line"])
            headings = [*headings[:level], cut["heading"]]
            # "Special attributes" says nothing without "Code objects" before it.
            title, start = ": ".join(headings[-2:] if level > 1 else headings[-1:]), cut.end()
        else:
            title, start = cut["signatures"].split("\n", 1)[0], cut.start()
        body = topic[start:end].strip()
        if len(body) >= SHORTEST_BODY:
            yield Document(title, body, labels(headings[0] if headings else title, title, body))


def labels(topic_title: str, title: str, body: str) -> tuple[str, ...]:
    """Return a section's labels, its kind first."""
    found = [next((kind for kind, pattern in KINDS if pattern.search(topic_title)), "language")]
    if GRAMMAR.search(body):
        found.append("grammar")
    if INTERNALS.search(title):
        found.append("internals")
    return tuple(found)

"""The dashboard's files, as they are served. No framework."""

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import PurePath
from string import Template
from typing import NamedTuple

import msgspec

DASHBOARD = files("vizpipe_trio").joinpath("dashboard")
"""The folder of the files."""

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",  # the page's address may carry the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

# The host's table may say otherwise, and a browser runs no script that is "text/plain".
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class PageFile(NamedTuple):
    """A file: its path below the page's own, its type, and what is in it."""

    path: str
    content_type: str
    content: bytes


def page_files(title: str, stages: Sequence[str], heartbeat_interval: float) -> Iterator[PageFile]:
    """Yield the dashboard's files; that of the page itself has the path "".

    Raises:
        TypeError: ``stages`` is one string, or has something else in it.
        UnicodeEncodeError: A lone surrogate is in ``title`` or ``stages``.
    """
    if isinstance(stages, str) or not all(isinstance(name, str) for name in stages):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"stages must be a sequence of names, not {stages!r}")
    settings = {
        "title": title,
        "stages": msgspec.json.encode(list(stages)).decode(),
        "heartbeat": f"{heartbeat_interval:g}",
    }
    for file in DASHBOARD.iterdir():
        content = file.read_bytes()
        if file.name == "index.html":
            # As text in attributes and elements: a script in the page could not read them otherwise.
            escaped = {name: escape(value) for name, value in settings.items()}
            content = Template(content.decode()).substitute(escaped).encode()
        content_type = f"{_TYPES[PurePath(file.name).suffix]}; charset=utf-8"
        yield PageFile("" if file.name == "index.html" else file.name, content_type, content)

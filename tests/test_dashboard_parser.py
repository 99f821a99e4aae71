"""The page's parser of event streams, on the examples of the HTML standard, 9.2.6, and on its rules."""

from typing import Any

from browsing import Chromium
from playwright.sync_api import Page
from support import make_app, serve

from vizpipe_trio import Pipe

PARSE = """async ([bytes, size]) => {
    const { EventStreamParser } = await import("/viz/sse.js");
    const parser = new EventStreamParser();
    const events = [];
    for (let at = 0; at < bytes.length; at += size) events.push(...parser.push(new Uint8Array(bytes.slice(at, at + size))));
    return [events.map(({ type, data, id }) => [type, data, id]), parser.lastEventId, parser.retryMs];
}"""

CASES: dict[str, tuple[bytes, list[list[str]], str, int | None]] = {
    "YHOO": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [["message", "YHOO\n+2\n10", ""]],
        "",
        None,
    ),
    "four blocks": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [["message", "first event", "1"], ["message", "second event", ""], ["message", " third event", ""]],
        "",
        None,
    ),
    "empty data": (
        b"data\n\ndata\ndata\n\ndata:",
        [["message", "", ""], ["message", "\n", ""]],
        "",
        None,
    ),
    "a space or none": (b"data:test\n\ndata: test\n\n", [["message", "test", ""]] * 2, "", None),
    "named": (
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\ndata: x\n\n",
        [["add", "73857293", ""], ["remove", "2153", ""], ["message", "x", ""]],
        "",
        None,
    ),
    "all line ends": (
        b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\rdata: e\r\n\r\n",
        [["message", "a\nb\nc", ""], ["message", "d", ""], ["message", "e", ""]],
        "",
        None,
    ),
    "BOM": (b"\xef\xbb\xbfdata: \xef\xbb\xbfa\n\n", [["message", "\ufeffa", ""]], "", None),
    "beyond ASCII": (
        "data: ½ 🧀 \u2028\x0b\x0c\x85\n\n".encode(),
        [["message", "½ 🧀 \u2028\x0b\x0c\x85", ""]],
        "",
        None,
    ),
    "id alone counts": (b"id: 7\n\n", [], "7", None),
    "id with NUL does not": (b"id: 7\n\nid: 8\x00\ndata: a\n\n", [["message", "a", "7"]], "7", None),
    "retry": (b"retry: 2000\n: vizpipe\n\nretry: 3e3\n\nretry: -1\n\n", [], "", 2000),
    "type without data": (b"event: missed\n\ndata: a\n\n", [["message", "a", ""]], "", None),
    "unknown field": (b"what: ever\nDATA: a\n data: b\ndata: c\n\n", [["message", "c", ""]], "", None),
    "unfinished": (b"data: a\n\ndata: b\n", [["message", "a", ""]], "", None),
}


async def test_the_standards_examples_are_read_to_the_byte_however_they_are_cut(
    browse: Chromium,
) -> None:
    read: dict[int, dict[str, Any]] = {}

    def script(page: Page) -> None:
        page.goto(url + "/viz/")
        for size in (1, 2, 3, 1000):
            read[size] = {name: page.evaluate(PARSE, [list(case[0]), size]) for name, case in CASES.items()}

    async with serve(make_app(Pipe())) as url:
        await browse(script)
    expected = {name: list(case[1:]) for name, case in CASES.items()}
    for size, events in read.items():
        assert events == expected, size

"""Whatever a request holds, over real sockets: it is answered, by no more than it may see."""

import socket
from urllib.parse import quote, urlsplit

import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support import EVENTS, STATS, make_app, serve, until

from vizpipe_trio import Event, Pipe

# Each example waits for a socket: a failure is shown as it was found.
brief = settings(max_examples=150, deadline=None, phases=[Phase.reuse, Phase.generate])

NAMES = ["op", "status", "source", "actor_type", "label", "token", "last_event_id", "colour", ""]
VALUES = [
    "",
    "WRITE",
    "ALLOWED",
    "x",
    "ÿ",
    "\ud800",
    "\x00",
    "%ff",
    "a&b=c",
    "\r\n\r\nGET / HTTP/1.1\r\n",
    "1" * 300,
]

visible = st.binary(max_size=20).map(lambda data: bytes(33 + byte % 94 for byte in data))
value = st.sampled_from(VALUES) | st.text(max_size=10) | st.text(st.characters(), max_size=5)


def encode_parameter(name: str, value: str) -> bytes:
    return f"{name}={quote(value, errors='surrogatepass')}".encode()


parameter = st.builds(encode_parameter, st.sampled_from(NAMES), value)
query = st.lists(parameter | visible, max_size=5).map(b"&".join) | st.integers(1, 90).map(b"label=x&".__mul__)
header_value = st.binary(max_size=30).map(
    lambda data: bytes(byte if byte >= 0x21 and byte != 0x7F else 0x2E for byte in data)
)  # fmt: skip
headers = st.lists(
    st.tuples(
        st.sampled_from(
            [b"Last-Event-ID", b"Authorization", b"Origin", b"Sec-Fetch-Site", b"Cookie", b"Accept", b"Range"]
        ),
        header_value | st.sampled_from([b"Bearer ", b"bearer \xff", b"Basic Og==", b"7c1e9f-1", b"9" * 200, b"null"]),
    ),
    max_size=3,
    unique_by=lambda header: header[0],
)  # fmt: skip


def status_of(url: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    """Send a request, and return the status of what comes back."""
    address = urlsplit(url)
    lines = [
        b"GET %b?%b HTTP/1.1" % (path.encode(), query),
        b"Host: localhost",
        *(b"%b: %b" % header for header in headers),
    ]
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        version, status, _ = connection.recv(13).split(b" ")
    assert version == b"HTTP/1.1"
    return int(status)


async def statuses_of_all_that_may_come(token: str | None) -> set[int]:
    """Send many requests to one server; it must not log an error, nor keep a client."""
    pipe = Pipe()
    for _ in range(10):
        pipe.emit(Event())
    statuses: set[int] = set()

    @brief
    @given(st.sampled_from([EVENTS, STATS]), query, headers)
    def send(path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        statuses.add(status_of(url, path, query, headers))

    async with serve(make_app(pipe, token=token)) as url:
        await trio.to_thread.run_sync(send)
        await until(lambda: pipe.statistics().clients == 0)
    return statuses


async def test_no_request_without_the_token_is_let_in() -> None:
    statuses = await statuses_of_all_that_may_come("a-token-that-nobody-guesses")
    assert {401} <= statuses <= {400, 401, 414}


async def test_no_request_is_answered_with_an_error_of_the_server() -> None:
    statuses = await statuses_of_all_that_may_come(None)
    assert {200, 400} <= statuses <= {200, 400, 403, 414}

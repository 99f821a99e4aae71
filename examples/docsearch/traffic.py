"""Something to watch: real requests to the app, from a process of their own.

``python -m examples.docsearch.traffic http://127.0.0.1:8000 20`` sends 20 requests a second. What it asks
is drawn from the corpus, in a mix that gives every stage of the pipeline something to answer.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from itertools import accumulate
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import trio

from .corpus import Document, load

CLIENTS = 8  # connections, each with one request at a time
TIMEOUT = 10.0  # seconds
REQUESTS_A_CONNECTION = 5  # so that all processes get some, if the app has several
NOTES = 0.01  # of all requests
PHRASES = 0.15  # of the queries; the others are titles
LONG_WORD = 5  # letters


class Request(NamedTuple):
    """A request to the app."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None = None


def as_it_is(title: str, rng: random.Random) -> str:
    """Asked again, this is what the exact cache answers."""
    return title


def in_other_words(title: str, rng: random.Random) -> str:
    """The same question in another spelling, for the semantic cache."""
    return rng.choice([title.upper(), title.lower(), "  ".join(title.split()), f"What does {title} do?"])


def misspelled(title: str, rng: random.Random) -> str:
    """Two letters of each long word swapped: no word is found, so the vectors have to."""

    def swap(word: str) -> str:
        at = rng.randrange(1, len(word) - 2) if len(word) >= LONG_WORD else 0
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :] if at else word

    return " ".join(swap(word) for word in title.split())


def refused(title: str, rng: random.Random) -> str:
    """A question that policy denies."""
    return f"{rng.choice(['exec', 'eval'])} {title}"


SPELLINGS: dict[Callable[[str, random.Random], str], float] = {
    as_it_is: 60,
    in_other_words: 20,
    misspelled: 15,
    refused: 5,
}


def requests(documents: Sequence[Document], rng: random.Random) -> Iterator[Request]:
    """Yield requests for ever. Some titles are asked for far more often than others, as it goes."""
    ranked = rng.sample(documents, len(documents))
    zipf = list(accumulate(rank**-1.2 for rank in range(1, len(ranked) + 1)))
    while True:
        [document] = rng.choices(ranked, cum_weights=zipf)
        [actor] = rng.choices(["user", "agent", "system"], [80, 15, 5])
        headers = {"X-Actor-Type": actor}
        if rng.random() < NOTES:
            note = {"title": f"On {document.title}"[:200], "text": phrase(document, rng, 40)}
            yield Request("POST", "/notes", headers | {"Content-Type": "application/json"}, json.dumps(note))
            continue
        subject = phrase(document, rng, 4) if rng.random() < PHRASES else document.title
        [spell] = rng.choices(list(SPELLINGS), list(SPELLINGS.values()))
        yield Request("GET", f"/search?q={quote(spell(subject, rng))}", headers)


def phrase(document: Document, rng: random.Random, length: int) -> str:
    """Return some words of the document that stand together."""
    words = document.body.split()
    start = rng.randrange(max(len(words) - length, 1))
    return " ".join(words[start : start + length])


def exchange(connection: HTTPConnection, request: Request) -> None:
    """Send a request and read the whole response, so that the connection can be used again."""
    connection.request(request.method, request.path, request.body, request.headers)
    connection.getresponse().read()


async def client(address: str, work: trio.MemoryReceiveChannel[Request], app_gone: trio.CancelScope) -> None:
    """Send what comes in ``work``, until the app no longer listens."""
    connection = HTTPConnection(address, timeout=TIMEOUT)
    left = REQUESTS_A_CONNECTION
    async for request in work:
        if not left:
            connection.close()  # it opens again with the next request
            left = REQUESTS_A_CONNECTION
        left -= 1
        try:
            await trio.to_thread.run_sync(exchange, connection, request)
        except ConnectionRefusedError:
            app_gone.cancel()
        except (OSError, HTTPException):
            connection.close()


async def send_traffic(address: str, rate: float, seed: int | None) -> None:
    """Send about ``rate`` requests a second to the app at ``address``, for as long as it is there."""
    rng = random.Random(seed)
    hand_out, work = trio.open_memory_channel[Request](0)
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client, address, work, nursery.cancel_scope)
        due = trio.current_time()
        for request in requests(load(), rng):
            # Requests come when they come, not when the last one was answered.
            due += rng.expovariate(rate)
            await trio.sleep_until(due)
            try:
                hand_out.send_nowait(request)
            except trio.WouldBlock:
                due = trio.current_time()  # all clients wait for the app: more would only pile up


def main() -> None:
    """Send traffic until the app is gone, or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.docsearch.traffic", description=__doc__)
    parser.add_argument("url", help="where the app is, such as http://127.0.0.1:8000")
    parser.add_argument("rate", type=float, help="requests a second")
    parser.add_argument("--seed", type=int, help="for the same requests in the same order every time")
    arguments = parser.parse_args()
    url: str = arguments.url
    if urlsplit(url).scheme != "http":
        parser.error(f"the URL must begin with http://, not {url!r}")
    if not arguments.rate > 0:
        parser.error(f"the rate must be more than 0, not {arguments.rate}")
    try:
        trio.run(send_traffic, urlsplit(url).netloc, arguments.rate, arguments.seed)
    except* KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

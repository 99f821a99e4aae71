"""What the command line says."""

import argparse
import secrets
from dataclasses import dataclass
from urllib.parse import quote

HIGHEST_PORT = 65535
HIGHEST_RATE = 1000.0


@dataclass(frozen=True, slots=True)
class Options:
    """Where to listen, what opens the stream, and how many requests a second to send, if any."""

    host: str
    port: int
    token: str
    traffic: float | None


def from_command_line() -> Options:
    """Return the options, or leave with a word on what is wrong with them."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.docsearch",
        description="Search Python's language reference, and watch what each search goes through.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=port, default=8000, help="the port, 0 for any free one (%(default)s)")
    parser.add_argument("--token", type=token, help="what opens the stream (a new one each time)")
    parser.add_argument("--traffic", type=rate, metavar="RATE", help="send RATE requests a second to the app")
    given = parser.parse_args()
    return Options(given.host, given.port, given.token or secrets.token_urlsafe(), given.traffic)


def port(text: str) -> int:
    """Return a port."""
    if not 0 <= int(text) <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {HIGHEST_PORT}")
    return int(text)


def rate(text: str) -> float:
    """Return a rate."""
    if not 0 < float(text) <= HIGHEST_RATE:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 and at most {HIGHEST_RATE:g}")
    return float(text)


def token(text: str) -> str:
    """Return a token that stands in an address as it is."""
    if not text or quote(text, safe="") != text:
        raise argparse.ArgumentTypeError("it may have letters, digits and -._~ only, and not be empty")
    return text

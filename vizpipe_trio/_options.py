"""What the command line's words mean: each function takes one, or says what is wrong with it."""

from argparse import ArgumentTypeError

import httpx2

from ._access import fits_header
from .client import stream_url

HIGHEST_PORT = 65_535
HIGHEST_RATE = 1000.0


def url(text: str) -> str:
    """Return an address; without a scheme it is one of HTTP."""
    address = text if "://" in text else f"http://{text}"
    try:
        stream_url(address, {})
    except (ValueError, httpx2.InvalidURL) as error:
        raise ArgumentTypeError(str(error)) from None
    return address


def token(text: str) -> str | None:
    """Return a token; an empty one, as of a variable that is set to nothing, is none."""
    if text and not fits_header(text):
        raise ArgumentTypeError("it must be printable ASCII without spaces or line ends")
    return text or None


def seconds(text: str) -> float:
    """Return a time."""
    if not float(text) > 0:
        raise ArgumentTypeError(f"{text} is not more than 0")
    return float(text)


def port(text: str) -> int:
    """Return a port."""
    if not 0 <= int(text) <= HIGHEST_PORT:
        raise ArgumentTypeError(f"{text} is not from 0 to {HIGHEST_PORT}")
    return int(text)


def rate(text: str) -> float:
    """Return requests a second."""
    if not 0 < float(text) <= HIGHEST_RATE:
        raise ArgumentTypeError(f"{text} is not more than 0 and at most {HIGHEST_RATE:g}")
    return float(text)

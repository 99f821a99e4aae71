"""A short soak; `make soak` runs a long one."""

import math

from soak import soak
from soak_viewers import Account

SECONDS = 5


async def test_a_saturated_pipe_keeps_its_promises_while_viewers_come_and_go() -> None:
    figures = await soak(SECONDS, max_growth=math.inf)  # too short to say anything about memory
    assert figures["broken"] == []
    assert figures["visits"] > 20


def test_a_viewers_account_is_in_order_and_knows_its_gaps() -> None:
    account = Account()
    account.read(b"retry: 2000\n: vizpipe\n\nid: ab-1\ndata: {}\n\n: keep-alive\n\nid: ab")
    account.read(
        b'-2\ndata: {}\n\nevent: missed\ndata: {"missed":3,"reason":"slow"}\n\nid: ab-6\ndata: {}\n\n'
    )
    account.read(b'event: missed\ndata: {"missed":9,"reason":"overload"}\n\nid: ab-7\ndata: {}\n\n')
    assert (account.events, account.missed["slow"], account.missed["overload"]) == (4, 3, 9)

"""Whose program is at the other end of a connection."""

import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from vizpipe_trio._peer import user_of_peer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@contextmanager
def connection(host: str) -> Generator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
        with client, server:
            yield client, server


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1"])
def test_the_other_end_belongs_to_who_opened_it(host: str) -> None:
    with connection(host) as (_, server):
        assert user_of_peer(server.getpeername()[:2], server.getsockname()[:2]) == os.geteuid()


def test_the_other_end_belongs_to_another_user() -> None:
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("only root can give a socket away")
    with connection("127.0.0.1") as (client, server):
        os.fchown(client.fileno(), 33, -1)
        assert user_of_peer(server.getpeername(), server.getsockname()) == 33
        assert user_of_peer(client.getpeername(), client.getsockname()) == 0


@pytest.mark.parametrize(
    "peer",
    [("127.0.0.1", 1), ("192.0.2.1", 50_000), ("::1", 1), ("localhost", 1), ("", 0), ("127.0.0.1", 99_999)],
)
def test_of_an_end_that_is_not_there_nothing_is_known(peer: tuple[str, int]) -> None:
    with connection("127.0.0.1") as (_, server):
        assert user_of_peer(peer, server.getsockname()) is None

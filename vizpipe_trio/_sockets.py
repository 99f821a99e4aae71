"""This process's server sockets, found among its open files. No tasks.

Hypercorn gives nobody its sockets, so what only a socket's options can do has to find them
first. They are known by their port; those of None are Unix sockets, since it does not tell an
app their paths. Without ``/dev/fd``, as on Windows, none are found.
"""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

KEEP_ALIVE_PROBES = 3
"""Unanswered probes after which an idle connection is given up."""

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # socket(7): linger for no time at all


class Listener(NamedTuple):
    """A listening socket: its file, and what that is as long as it is open."""

    file: int
    identity: tuple[int, int]

    @property
    def is_open(self) -> bool:
        """Whether its owner has not closed it."""
        return _identity(self.file) == self.identity


def limit(port: int | None, seconds: float) -> tuple[list[Listener], bool]:
    """Have the kernel give up peers that take nothing, or do not answer, for so many seconds.

    Sets it for the connections at a port and, as accepted connections inherit it, for its
    listeners. Unix sockets know no such limit.

    Returns:
        The listeners, and whether any socket did not have this limit yet.
    """
    listeners: list[Listener] = []
    is_any_new = False
    for file, found in _sockets(port):
        with suppress(OSError):  # it is gone already
            is_any_new |= port is not None and _limit(found, seconds)
            identity = _identity(file)
            if identity is not None and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listeners.append(Listener(file, identity))
    return listeners, is_any_new


def _limit(found: socket.socket, seconds: float) -> bool:
    probe_seconds = max(int(seconds / (KEEP_ALIVE_PROBES + 1)), 1)
    options = {
        "TCP_KEEPIDLE": probe_seconds,
        "TCP_KEEPINTVL": probe_seconds,
        "TCP_KEEPCNT": KEEP_ALIVE_PROBES,
        "TCP_USER_TIMEOUT": int(seconds * 1000),
    }
    has = {name: getattr(socket, name) for name in options if hasattr(socket, name)}
    known = [found.getsockopt(socket.IPPROTO_TCP, number) for number in has.values()]
    if known == [options[name] for name in has] and found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return False
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, number in has.items():
        found.setsockopt(socket.IPPROTO_TCP, number, options[name])
    return True


def end(port: int | None, *, reset: bool = False) -> None:
    """End the connections at a port, also those whose peer takes nothing.

    A send that waits for its peer fails. What the kernel has taken already still goes out, unless
    they are reset.
    """
    for _, found in _sockets(port):
        with suppress(OSError):  # it is gone already
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                continue
            if reset:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            found.shutdown(socket.SHUT_RDWR)


def _sockets(port: int | None) -> Iterator[tuple[int, socket.socket]]:
    """Yield files that are sockets at a local port, each with a duplicate that is closed again."""
    for file in _open_files():
        duplicate = _duplicate(file)
        if duplicate is not None:
            with duplicate:
                if _is_at(duplicate, port):
                    yield file, duplicate


def _open_files() -> list[int]:
    try:
        return [int(path.name) for path in Path("/dev/fd").iterdir()]
    except OSError:
        return []


def _duplicate(file: int) -> socket.socket | None:
    try:
        if not _may_be_a_server(file):
            return None
        duplicate = os.dup(file)
    except OSError:
        return None  # it was closed since
    try:
        return socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)  # it is something else by now
        return None


def _may_be_a_server(file: int) -> bool:
    """Whether it may be a server's socket. All else must not be touched, since it is the host's.

    To close a duplicate of a file lets go of all locks that the process has on it (fcntl(2)), and with
    them of what keeps an SQLite database whole. And where the host has called ``socket.setdefaulttimeout``,
    a socket object makes the file itself block no more; a server's on Trio never does.
    """
    return stat.S_ISSOCK(os.fstat(file).st_mode) and not os.get_blocking(file)


def _is_at(found: socket.socket, port: int | None) -> bool:
    if found.type != socket.SOCK_STREAM:
        return False
    try:
        name = found.getsockname()
    except OSError:
        return False  # it was shut down; only some systems mind
    if found.family in {socket.AF_INET, socket.AF_INET6}:
        return bool(name[1] == port)
    # A Unix socket that is no server's has no name.
    return port is None and found.family == socket.AF_UNIX and bool(name)


def _identity(file: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino

"""Whose program is at the other end of a connection within this machine, as the kernel has it.

A proxy need not tell that it is one. But it seldom runs as a person: distributions give it an account of
its own. Linux says which user a socket belongs to, over netlink: see sock_diag(7), and for the layout of
what is sent and received linux/inet_diag.h. It takes some 50 µs and never waits.
"""

import socket
import struct
from contextlib import suppress

Address = tuple[str, int]

_SOCK_DIAG = 4  # a netlink protocol, of which the socket module has no name
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY: the type of a question and of its answer
_REQUEST = 1  # NLM_F_REQUEST
_ANY_COOKIE = 0xFFFF_FFFF
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, sender
_QUESTION = struct.Struct("=BBBxI")  # family, protocol, extensions, states
_SOCKET = struct.Struct("!HH16s16s")  # ports and addresses, its own first; then interface and cookie
_BEYOND = struct.Struct("=III")
_USER_AT = _HEADER.size + 4 + _SOCKET.size + _BEYOND.size + 12


def user_of_peer(peer: Address, here: Address) -> int | None:
    """Return the ID of the user who owns the other end of a TCP connection, or None if it is unknown.

    It is on systems other than Linux, where netlink is shut off, and when that end is no more.

    Args:
        peer: The other end's address and port.
        here: The address and port at this end.
    """
    with suppress(AttributeError, OSError, ValueError, struct.error):
        family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
        question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _ANY_COOKIE)
        question += _SOCKET.pack(
            peer[1], here[1], socket.inet_pton(family, peer[0]), socket.inet_pton(family, here[0])
        )
        question += _BEYOND.pack(0, _ANY_COOKIE, _ANY_COOKIE)
        header = _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 1, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.setblocking(False)  # the answer is there when the question is sent
            kernel.send(header + question)
            answer = kernel.recv(4096)
        if _HEADER.unpack_from(answer)[1] == _BY_FAMILY:
            user: int = struct.unpack_from("=I", answer, _USER_AT)[0]
            return user
    return None

"""No network: connecting to or looking up anything but this machine raises, by an audit hook.

CPython announces every connection, datagram and name look-up to its audit hooks, whether Python
or a C extension written against ``_socket`` asks for it, and a hook cannot be removed. One hole is
closed by hand: ``connect`` and ``sendto`` look a name up before they are announced. AF_UNIX and the
loopback addresses stay open: workers and notebook kernels talk over them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

LOOPBACK = ("localhost", "::1")
LISTEN = (None, "", "0.0.0.0", "::")
"""What a server asks the look-up for to listen on every interface; numbers, not names."""
SENDS = ("socket.connect", "socket.sendto", "socket.sendmsg")
ASKS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


class NetworkUse(RuntimeError):
    """Something reached for the network. No OSError: what tolerates a failure must not hide it."""


def install() -> None:
    """Guard this process, and through the environment the Python processes that it starts."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib is slow to import
    path = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != here]
    os.environ.update(PYTHONPATH=os.pathsep.join([here, *path]), RRALLOC_OFFLINE="1")
    if not _installed:
        sys.addaudithook(_guard)
        _installed.append(True)


_installed: list[bool] = []


def _guard(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.__new__":
        _check_names_first()
    elif event in SENDS:
        _check(event, args[0], args[1])
    elif event in ASKS and not (_is_loopback(args[0]) or args[0] in LISTEN):
        raise NetworkUse(f"no network in the tests: {event} of {args[0]!r}")


def _check(event: str, sock: Any, address: Any) -> None:
    if address is not None and not _stays_here(int(sock.family), address):
        raise NetworkUse(f"no network in the tests: {event} to {address!r}")


def _check_names_first() -> None:
    """Wrap the senders of ``socket.socket`` once the module is there."""
    cls = getattr(sys.modules.get("socket"), "socket", None)
    if cls is None or "connect" in vars(cls):
        return

    def checked(name: str) -> Any:
        plain = getattr(cls, name)

        def send(self: Any, *args: Any) -> Any:
            if args:  # the address is the last argument of each
                _check(f"socket.{name}", self, args[-1])
            return plain(self, *args)

        return send

    for name in ("connect", "connect_ex", "sendto"):
        setattr(cls, name, checked(name))


def _stays_here(family: int, address: Any) -> bool:
    import _socket  # it is there: it announced the event

    if family == getattr(_socket, "AF_UNIX", None):
        return True
    internet = family in (_socket.AF_INET, _socket.AF_INET6)
    return internet and isinstance(address, tuple) and _is_loopback(address[0])


def _is_loopback(host: Any) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else host
    if not isinstance(name, str):
        return False
    parts = name.split(".")
    dotted = len(parts) == 4 and all(p.isdigit() for p in parts)
    return name.lower() in LOOPBACK or (dotted and int(parts[0]) == 127)

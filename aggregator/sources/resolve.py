"""Name resolution with a deadline.

getaddrinfo cannot be interrupted, and with a dead resolver it takes half a minute: it runs in a
thread of its own, one a name, and whoever asks waits only as long as it has time.
"""

import ipaddress
import socket
import threading
from typing import TypeAlias

# family, type, protocol and address: what `socket.socket` and `connect` want
Address: TypeAlias = tuple[int, int, int, tuple[str | int | bytes, ...]]

_MAX_LOOKUPS = 256
# Cloud metadata services hand out credentials to whoever asks; no Prometheus lives there.
_FORBIDDEN = (
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("fd00:ec2::254/128"),
)


class Resolver:
    """Looks names up, each in one thread at a time, however many ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], _Lookup] = {}

    def addresses(self, host: str, port: int, timeout_seconds: float) -> list[Address]:
        """Return the addresses of *host*, IPv6 and IPv4 in the system's order.

        Raises socket.gaierror if there are none, TimeoutError if the answer takes too long.
        """
        try:
            found = _lookup(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = self._ask(host, port, timeout_seconds)
        allowed = [address for address in found if not forbidden(str(address[3][0]))]
        if not allowed:
            raise socket.gaierror(socket.EAI_FAIL, "link-local addresses are not asked")
        return allowed

    def _ask(self, host: str, port: int, timeout_seconds: float) -> list[Address]:
        key = (host, port)
        with self._lock:
            lookup = self._running.get(key)
            if lookup is None:
                if len(self._running) >= _MAX_LOOKUPS:
                    raise socket.gaierror(socket.EAI_AGAIN, "too many lookups hang")
                lookup = self._running[key] = _Lookup(host, port)
                thread = threading.Thread(
                    target=self._run, args=(lookup,), name=f"resolve {host}", daemon=True
                )
                thread.start()
        if not lookup.done.wait(timeout_seconds):
            raise TimeoutError
        if lookup.error is not None:
            raise socket.gaierror(lookup.error.errno, lookup.error.strerror)
        return lookup.found

    def _run(self, lookup: "_Lookup") -> None:
        try:
            lookup.found = _lookup(lookup.host, lookup.port, 0)
        except socket.gaierror as error:
            lookup.error = error
        finally:
            with self._lock:
                del self._running[lookup.host, lookup.port]
            lookup.done.set()


class _Lookup:
    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.done = threading.Event()
        self.found: list[Address] = []
        self.error: socket.gaierror | None = None


def _lookup(host: str, port: int, flags: int) -> list[Address]:
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:  # a label too long or empty, from the IDNA codec
        raise socket.gaierror(socket.EAI_NONAME, "not a valid name") from error
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in rows]


def forbidden(address: str) -> bool:
    """Tell whether *address* is one that no source can have."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        parsed = mapped
    return any(parsed in network for network in _FORBIDDEN)

"""The connections under our sessions: urllib3's, watched by a deadline, and the adapter over them.

Everything that requests and urllib3 would otherwise guess is told here: which certificates to
trust, that nothing is tried again, and that a connection has to be made before the deadline.
"""

import http.client
import io
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from aggregator.sources import deadline
from aggregator.sources.failures import HeadersCutError
from aggregator.sources.resolve import Address, Resolver

_BUFFER_BYTES = 65_536
_RESOLVER = Resolver()


class _Lines(io.BufferedReader):
    """A stream that remembers its last line."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class _Response(http.client.HTTPResponse):
    """An HTTP response whose headers have to end as headers do, not with the connection."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  http.client's own parameters, passed on
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._lines = _Lines(sock.makefile("rb", buffering=0), _BUFFER_BYTES)
        self.fp = self._lines

    def begin(self) -> None:
        super().begin()
        if self._lines.last not in (b"\r\n", b"\n"):
            raise HeadersCutError


class _Connection(HTTPConnection):
    """A connection that opens and works under the deadline of its thread's exchange."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        exchange = deadline.current()
        if exchange is None:
            raise TimeoutError  # nothing may be sent without a deadline
        # `_dns_host` keeps the trailing dot of a fully qualified name, `host` does not.
        port = self.port or self.default_port
        exchange.connected = True
        addresses = _RESOLVER.addresses(self._dns_host, port, exchange.left())
        return _connect(addresses, exchange)

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  urllib3's own, passed on
        exchange = deadline.current()
        if exchange is not None and self.sock is not None:
            exchange.watch(self.sock)  # kept alive since an earlier exchange
        super().request(*args, **kwargs)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection

    def _validate_conn(self, conn: Any) -> None:  # noqa: ANN401  urllib3's own type
        """Connect, without a warning a request where verification is switched off on purpose."""
        if conn.is_closed:
            conn.connect()


_POOLS = {"http": _Pool, "https": _TlsPool}


def _connect(addresses: Sequence[Address], exchange: deadline.Exchange) -> socket.socket:
    """Connect within the deadline, to the first of *addresses* that answers."""
    failed: OSError = TimeoutError()
    for tried, (family, kind, protocol, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            share = exchange.left() / (len(addresses) - tried)
            sock.settimeout(min(exchange.connect_seconds, share))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
            sock.settimeout(exchange.left())
            exchange.watch(sock)
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed


class Adapter(HTTPAdapter):
    """The adapter of one server: our connections, our certificates, one try, no cookies."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None, connections: int) -> None:
        self._tls: dict[str, Any] = {"ssl_context": context, "server_hostname": server_name}
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: object
    ) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs, **self._tls)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: object) -> ProxyManager:
        """Make the pools of connections through a proxy."""
        manager: ProxyManager = super().proxy_manager_for(proxy, **proxy_kwargs, **self._tls)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,
        cert: str | tuple[str, str] | None = None,
    ) -> tuple[Any, Any]:
        """Name the host alone: how it is verified is settled by our own context."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Leave verification to our own context; requests would add its default authorities."""

    def close(self) -> None:
        """Close the idle connections now; urllib3 leaves that to the garbage collector."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  the container has no iterator
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()

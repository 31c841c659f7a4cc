"""The listening socket and the server's thread."""

import errno
import logging
import socket
import ssl
import threading
import time
from typing import Final

import uvicorn

from aggregator import supervise
from aggregator.api.certificate import CertificateWatch, check
from aggregator.api.gate import Gate
from aggregator.api.protocol import BoundedProtocol
from aggregator.api.settings import ApiSettings
from aggregator.errors import ConfigError

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5
_KEEP_ALIVE_SECONDS: Final = 75
_BACKLOG: Final = 1024


class Server:
    """Serves one application until it is stopped.

    The socket is bound when the server is made, so that a taken port is known before anything
    else is started.
    """

    def __init__(self, app: Gate, settings: ApiSettings) -> None:
        self._socket = _listen(settings)
        self.port: int = self._socket.getsockname()[1]
        tls = settings.tls
        config = uvicorn.Config(
            app,
            lifespan="on",
            loop="uvloop",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            limit_concurrency=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
            http=BoundedProtocol,
            ws="none",
            ssl_certfile=None if tls is None else str(tls.cert_file),
            ssl_keyfile=None if tls is None else str(tls.key_file),
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        try:
            if tls is not None:
                check(tls)
            config.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise ConfigError(f"cannot use the certificate: {error}", path="api.tls") from error
        self._certificate = (
            None if tls is None or config.ssl is None else CertificateWatch(config.ssl, tls)
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)

    def start(self) -> None:
        """Start serving; return when requests are answered. Raises `ConfigError` if it fails."""
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigError("the HTTP server did not start; see the log", path="api")

        if self._certificate is not None:
            self._certificate.start()

    def stop(self) -> None:
        """Let running requests end, for some seconds, and stop serving."""
        if self._certificate is not None:
            self._certificate.stop()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS + 5)
        self._socket.close()

    def _run(self) -> None:
        supervise.run("api", lambda: self._server.run(sockets=[self._socket]))


def _listen(settings: ApiSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            reason = "another process listens there; stop it or choose another port"
        else:
            reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"cannot listen on {settings.listen}: {reason}", path="api.listen"
        ) from error
    return listening

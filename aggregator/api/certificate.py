"""The certificate we serve with, read again when its files change."""

import ssl
import threading

import structlog

from aggregator.api.settings import ServerTls
from aggregator.supervise import Loop

_LOG = structlog.get_logger(__name__)
_LOOK_SECONDS = 5.0


def check(tls: ServerTls) -> None:
    """Raise OSError or ssl.SSLError if the files cannot be served with; never ask a terminal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")


class CertificateWatch:
    """Gives *context* the certificate of *tls* again whenever its files change.

    Connections that are open keep what they have; files that cannot be used change nothing.
    """

    def __init__(
        self, context: ssl.SSLContext, tls: ServerTls, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        self._context, self._tls, self._look_seconds = context, tls, look_seconds
        self._seen = self._stamps()
        self._loop = Loop("api-certificate", self._look)

    def start(self) -> None:
        """Start looking."""
        self._loop.start()

    def stop(self) -> None:
        """Stop looking."""
        self._loop.stop()

    def _look(self, stopping: threading.Event) -> None:
        if stopping.wait(self._look_seconds):
            return
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        if stamps is None:
            return
        try:
            check(self._tls)  # a pair that does not fit would leave the context without a key
            self._context.load_cert_chain(self._tls.cert_file, self._tls.key_file)
        except (OSError, ssl.SSLError) as error:
            _LOG.warning("the new certificate cannot be used", error=type(error).__name__)
            return
        _LOG.info("serving with a new certificate")

    def _stamps(self) -> tuple[int, ...] | None:
        """Return what tells a changed pair of files, None while one is missing."""
        try:
            files = [file.stat() for file in (self._tls.cert_file, self._tls.key_file)]
        except OSError:
            return None
        return tuple(number for file in files for number in (file.st_mtime_ns, file.st_ino))

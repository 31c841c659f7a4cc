"""Requests to servers that are no cluster's: pagers and Grafana.

A `requests.Session` that can be handed to a library: whatever is asked through it ends at a total
deadline, reads a bounded answer, follows no redirect, keeps no cookie, and takes neither proxies
nor credentials from the environment.
"""

import io
import time
from collections.abc import Sequence
from functools import reduce
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests

from aggregator import __version__
from aggregator.settings import Tls
from aggregator.sources import tls as tls_files
from aggregator.sources.connection import Adapter
from aggregator.sources.deadline import Exchange

_CHUNK_BYTES = 65_536
_CONNECT_SECONDS = 5.0


class AnswerTooLargeError(requests.RequestException):
    """The server sent more than it may."""


class BoundedSession(requests.Session):
    """A session for one server; raises `requests.RequestException` or OSError, never hangs."""

    def __init__(
        self,
        *,
        timeout_seconds: float,
        max_bytes: int,
        ca_file: Path | None = None,
        hidden: Sequence[str] = (),
    ) -> None:
        """Build a session whose requests take *timeout_seconds* each.

        *hidden* secrets are taken out of errors, which may repeat what was sent. Raises OSError if
        *ca_file* cannot be used.
        """
        super().__init__()
        self._hidden = tuple(secret.encode() for secret in hidden if secret)
        self._timeout_seconds, self._max_bytes = timeout_seconds, max_bytes
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers["User-Agent"] = f"fleet-aggregator/{__version__}"
        self.headers["Accept-Encoding"] = "identity"
        settings = Tls(ca_file=ca_file)
        self.adapters.clear()
        context = tls_files.context(settings, tls_files.signatures(settings))
        self.mount("http://", Adapter(context, None, 2))
        self.mount("https://", Adapter(context, None, 2))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Follow no redirect: its answer is the answer."""
        del resp
        return None

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # noqa: ANN401  requests' own, and mostly overruled
        """Send *request* and read the whole answer before the deadline."""
        bounds = {"stream": True, "timeout": self._timeout_seconds, "verify": True}
        exchange = Exchange(time.monotonic() + self._timeout_seconds, _CONNECT_SECONDS)
        try:
            with exchange:
                response = super().send(request, **(kwargs | bounds))
                body = self._read(response)
        except (requests.RequestException, OSError) as error:
            if exchange.expired:
                raise requests.Timeout("no complete answer in time") from error
            raise
        if exchange.expired:  # what looks like an answer may be half of one
            raise requests.Timeout("no complete answer in time")
        whole = requests.Response()
        whole.status_code, whole.headers = response.status_code, response.headers
        whole.url, whole.request, whole.encoding = response.url, request, response.encoding
        whole.raw = io.BytesIO(body)
        return whole

    def _read(self, response: requests.Response) -> bytes:
        body = bytearray()
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                body += chunk
                if len(body) > self._max_bytes:
                    raise AnswerTooLargeError("the answer is too large")
        finally:
            response.close()
        if response.ok:
            return bytes(body)
        return reduce(lambda text, secret: text.replace(secret, b"***"), self._hidden, bytes(body))

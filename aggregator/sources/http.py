"""HTTP to one server of a cluster: a total deadline, byte limits, credentials, TLS, our errors.

Knows no protocol above HTTP. Nothing is tried again, but once after a 401 with credentials that
were read again, and where a connection kept alive turns out to be closed. No redirect is followed,
no cookie kept, nothing taken from the environment, and no address outside of the URL is asked.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlencode

import requests
import urllib3.exceptions
from requests.structures import CaseInsensitiveDict

from aggregator import __version__, telemetry
from aggregator.errors import SourceError
from aggregator.settings import HttpAuth, Tls
from aggregator.sources import tls as tls_files
from aggregator.sources.answer import (
    Explain,
    HttpAnswer,
    Limits,
    Said,
    plain_text,
    read_body,
    status_failure,
)
from aggregator.sources.auth import Credentials
from aggregator.sources.connection import Adapter
from aggregator.sources.deadline import Exchange
from aggregator.sources.failures import Kind, failure, gone_before_answer, translate

_MAX_URL_CHARS = 4096
_CONNECTIONS = 4
_INFLATED_PER_RAW = 4


class SourceSession(requests.Session):
    """A session for one server. Threads may share it; each request has a deadline of its own."""

    def __init__(
        self,
        cluster: str,
        url: str,
        *,
        auth: HttpAuth,
        tls: Tls,
        proxy_url: str | None = None,
        timeout_seconds: float,
        connect_seconds: float = 3.0,
        max_bytes: int,
        gzip: bool = True,
        tenant: str | None = None,
        explain: Explain = plain_text,
    ) -> None:
        super().__init__()
        self.cluster, self.base = cluster, url.rstrip("/")
        self.trust_env = False
        self.proxies = {} if proxy_url is None else {"http": proxy_url, "https": proxy_url}
        self.headers = CaseInsensitiveDict(
            {
                "Accept": "application/json",
                "Accept-Encoding": "gzip" if gzip else "identity",
                "User-Agent": f"fleet-aggregator/{__version__}",
            }
        )
        if tenant is not None:
            self.headers["X-Scope-OrgID"] = tenant
        self._timeout_seconds, self._connect_seconds = timeout_seconds, connect_seconds
        self._limits = Limits(max_bytes, max_bytes * _INFLATED_PER_RAW)
        self._explain = explain
        self._credentials = Credentials(cluster, auth)
        self._tls = tls
        self._lock = threading.Lock()
        self._signatures: tuple[tls_files.Signature, ...] | None = None
        self._template = requests.Request("GET", self.base + "/", headers=self.headers).prepare()
        self.remount()

    def remount(self) -> None:
        """Forget every adapter, those that others mounted too; ours comes with the next request."""
        with self._lock:
            self.close()
            self.adapters.clear()
            self._signatures = None

    def ask(
        self, path: str, params: Sequence[tuple[str, str]], timeout_seconds: float | None = None
    ) -> HttpAnswer:
        """Ask for *path* under the URL and return the answer, if its status is a success.

        A query that makes the URL longer than 4 KiB goes as a POST form. Raises `SourceError`.
        """
        query = urlencode(params)
        request = self._template.copy()
        request.url = f"{self.base}{path}"
        if len(request.url) + len(query) < _MAX_URL_CHARS:
            request.url += f"?{query}" if query else ""
        else:
            request.method, request.body = "POST", query.encode()
            request.headers["Content-Type"] = "application/x-www-form-urlencoded"
            request.headers["Content-Length"] = str(len(request.body))
        return self.exchange(request, timeout_seconds)

    def exchange(
        self, request: requests.PreparedRequest, timeout_seconds: float | None = None
    ) -> HttpAnswer:
        """Send *request* and return the answer, if its status is a success.

        Takes *timeout_seconds* at most, for everything together: credentials, name resolution,
        connection, TLS, request, headers, body and the second try after a 401. Raises
        `SourceError`.
        """
        limit = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        ends = time.monotonic() + limit
        self._refresh()
        header = self._credentials.header(limit)
        answer = self._once(request, header, ends, limit)
        if answer.status == 401 and header is not None:
            renewed = self._credentials.header(max(ends - time.monotonic(), 0.0), again=True)
            if renewed != header:
                answer = self._once(request, renewed, ends, limit)
        failed = status_failure(self.cluster, answer, self._said(answer))
        if failed is not None:
            raise failed
        return answer

    def redact(self, text: str) -> str:
        """Return *text*, which the server wrote, without our credentials."""
        return self._credentials.redact(text)

    def _said(self, answer: HttpAnswer) -> Said:
        if answer.status == 200:
            return Said()
        said = self._explain(answer)
        return replace(said, text=self.redact(said.text))

    def _refresh(self) -> None:
        """Mount our adapter, again when a file of the TLS settings has changed."""
        found = tls_files.signatures(self._tls)
        with self._lock:
            if found == self._signatures:
                return
            try:
                context = tls_files.context(self._tls, found)
            except OSError as error:
                if self._signatures is not None:
                    return  # half of a pair was replaced; the other half follows
                message = f"its TLS files cannot be used ({error.strerror or error}); check tls"
                raise failure(self.cluster, Kind.TLS, message) from error
            self.close()
            adapter = Adapter(context, self._tls.server_name, _CONNECTIONS)
            self.mount(self.base + "/", adapter)
            self._signatures = found

    def _once(
        self,
        request: requests.PreparedRequest,
        header: tuple[str, str] | None,
        ends: float,
        limit: float,
    ) -> HttpAnswer:
        if not (request.url or "").lower().startswith(f"{self.base}/".lower()):
            message = "an address outside of its url was to be asked; this is refused"
            raise failure(self.cluster, Kind.BAD_REQUEST, message)
        adapter = self.get_adapter(request.url or "")
        if header is not None:
            request.headers[header[0]] = header[1]
        exchange = Exchange(ends, self._connect_seconds)
        try:
            with exchange:
                answer = self._read(adapter, request, exchange)
        except SourceError:
            if not exchange.expired:
                raise
            raise self._late(limit) from None
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as error:
            if exchange.expired:
                raise self._late(limit) from error
            raise translate(self.cluster, error) from error
        if exchange.expired:  # what looks like an answer may be half of one
            raise self._late(limit)
        return answer

    def _read(
        self,
        adapter: requests.adapters.BaseAdapter,
        request: requests.PreparedRequest,
        exchange: Exchange,
    ) -> HttpAnswer:
        response = self._sent(adapter, request, exchange)
        try:
            body, raw_bytes = read_body(self.cluster, response, self._limits)
        finally:
            response.close()
        telemetry.RESPONSE_BYTES.labels(self.cluster).inc(raw_bytes)
        return HttpAnswer(response.status_code, response.headers, body, raw_bytes)

    def _sent(
        self,
        adapter: requests.adapters.BaseAdapter,
        request: requests.PreparedRequest,
        exchange: Exchange,
    ) -> requests.Response:
        left = exchange.left()
        try:
            return adapter.send(request, stream=True, timeout=(left, left), proxies=self.proxies)
        except requests.ConnectionError as error:
            if exchange.connected or not gone_before_answer(error):
                raise
        # A connection kept since the last tick was closed while idle. Where the server's patience
        # is as long as our interval that happens each time, and says nothing of this request.
        left = exchange.left()
        return adapter.send(request, stream=True, timeout=(left, left), proxies=self.proxies)

    def _late(self, limit: float) -> SourceError:
        message = f"no complete answer in {limit:g} s; is it overloaded, is the network slow?"
        return failure(self.cluster, Kind.TIMEOUT, message)

"""A safe connection to a running aggregator: deadlines, no retries, no redirects, a size cap."""

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import orjson
import requests
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from aggregator.errors import (
    ConfigError,
    QueryExecutionError,
    QuerySyntaxError,
    QueryTimeoutError,
    ServerError,
)

DEFAULT_URL = "http://localhost:9494"
_MAX_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 16
_NO_RETRIES = Retry(total=0, redirect=0, raise_on_status=False)
_QUERY_ERRORS = {
    "bad_data": QuerySyntaxError,
    "execution": QueryExecutionError,
    "timeout": QueryTimeoutError,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer: the whole document, and what the server said beside the data."""

    document: dict[str, Any]
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()


class _Bearer(AuthBase):
    """Shows a token, read from its file each time so that a new one is used at once."""

    def __init__(self, token: str, token_file: Path | None) -> None:
        self._token, self._file = token, token_file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = self._token
        if self._file is not None:
            try:
                token = self._file.read_text(encoding="utf-8").strip()
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise ServerError(f"cannot read the token from {self._file}: {reason}") from error
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request


class _Session(requests.Session):
    """A session that follows no redirect, takes nothing from the environment and never hangs."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__()
        self.trust_env = False
        self._timeout_seconds = timeout_seconds

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401  requests' own
        kwargs["allow_redirects"] = False
        kwargs["timeout"] = kwargs.get("timeout") or self._timeout_seconds
        return super().request(*args, **kwargs)


class Connection(PrometheusConnect):
    """Asks one aggregator; its Prometheus API also through the inherited methods.

    Raises `QueryError`s as the server means them, and `ServerError` for everything else;
    `ConfigError` for an address that cannot be used.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str = "",
        token_file: str | Path | None = None,
        timeout_seconds: float = 60.0,
        ca_file: str | Path | None = None,
        proxy_url: str | None = None,
    ) -> None:
        self._base = _address(url)
        self._timeout_seconds = timeout_seconds
        session = _Session(timeout_seconds)
        session.verify = True if ca_file is None else str(ca_file)
        if proxy_url is not None:
            session.proxies = {"http": proxy_url, "https": proxy_url}
        session.auth = _Bearer(token, None if token_file is None else Path(token_file))
        super().__init__(
            f"{self._base}/prometheus", retry=_NO_RETRIES, session=session, method="POST"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def prometheus(self, path: str, parameters: Mapping[str, str | list[str]]) -> Answer:
        """Ask the Prometheus API for *path* (such as `query`), parameters in a form."""
        return self._ask("POST", f"/prometheus/api/v1/{path}", parameters)

    def fleet(self, path: str, parameters: Mapping[str, str] | None = None) -> Answer:
        """Ask the fleet API for *path* (such as `clusters`)."""
        return self._ask("GET", f"/api/v1/{path}", parameters or {})

    def _ask(self, method: str, path: str, parameters: Mapping[str, str | list[str]]) -> Answer:
        params, form = (parameters, None) if method == "GET" else (None, parameters)
        deadline = time.monotonic() + self._timeout_seconds
        try:
            response = self._session.request(
                method, self._base + path, params=params, data=form, stream=True
            )
            with response:
                body = _read(response, deadline)
        except (requests.RequestException, HTTPError) as error:
            reason = "no answer in time" if _is_timeout(error) else type(error).__name__
            raise ServerError(f"{self._base} cannot be asked: {reason}") from error
        document = _decoded(body)
        if response.status_code != 200 or document is None:
            raise _failure(self._base, response.status_code, document)
        return Answer(
            document,
            tuple(map(str, document.get("warnings", ()))),
            tuple(map(str, document.get("infos", ()))),
        )


def _address(url: str) -> str:
    """Return *url* without a slash at the end. Raises `ConfigError` if it is none of a server."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"write the server's address as in {DEFAULT_URL}")
    if "@" in parts.netloc:  # it would be in every message
        raise ConfigError("write the server's address without a password; give a token instead")
    return url.rstrip("/")


def _read(response: requests.Response, deadline: float) -> bytes:
    chunks, size = [], 0
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
        size += len(chunk)
        if size > _MAX_BYTES:
            raise ServerError(f"the answer has more than {_MAX_BYTES >> 20} MiB")
        if time.monotonic() > deadline:
            raise ServerError("the answer came too slowly; give the client more timeout_seconds")
        chunks.append(chunk)
    return b"".join(chunks)


def _decoded(body: bytes) -> dict[str, Any] | None:
    collecting = gc.isenabled()
    gc.disable()  # a list a sample, none of it garbage: to walk them takes twice the time
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    finally:
        if collecting:
            gc.enable()
    return document if isinstance(document, dict) else None


def _failure(base: str, status: int, document: dict[str, Any] | None) -> Exception:
    """Return the exception that an answer which is no success stands for."""
    if status == 200 or document is None or "error" not in document:
        return ServerError(
            f"{base} answered HTTP {status}, but not as an aggregator", status=status
        )
    kind = _QUERY_ERRORS.get(str(document.get("errorType")))
    if kind is not None:
        return kind(str(document["error"]))
    return ServerError(f"{base} answered HTTP {status}: {document['error']}", status=status)


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, requests.Timeout) or "timed out" in str(error)

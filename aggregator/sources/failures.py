"""What can go wrong when a server of a cluster is asked, as our exceptions.

A message says what to do and contains no secret. What the other side wrote is shortened and
cleaned, for the other side is not trusted.
"""

import http.client
import socket
import ssl
from enum import StrEnum

import requests
import urllib3.exceptions

from aggregator.errors import (
    SourceError,
    SourceMalformedError,
    SourceRejectedError,
    SourceUnreachableError,
)

_TEXT_CHARS = 300


class Kind(StrEnum):
    """The ways a request to a source ends badly."""

    # no usable answer came: `SourceUnreachableError`
    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    TIMEOUT = "timeout"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    PROXY = "proxy"
    RATE_LIMITED = "rate_limited"
    QUERY_TIMEOUT = "query_timeout"
    SERVER_ERROR = "server_error"
    # the same request fails again: `SourceRejectedError`
    AUTH = "auth"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    EXECUTION = "execution"
    REDIRECT = "redirect"
    # not what the protocol promises: `SourceMalformedError`
    HTML = "html"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    WRONG_JSON = "wrong_json"
    WRONG_PROTOCOL = "wrong_protocol"
    TOO_LARGE = "too_large"
    BAD_ENCODING = "bad_encoding"


_REJECTED = {Kind.AUTH, Kind.NOT_FOUND, Kind.BAD_REQUEST, Kind.EXECUTION, Kind.REDIRECT}
_MALFORMED = {
    Kind.HTML,
    Kind.TRUNCATED,
    Kind.EMPTY,
    Kind.WRONG_JSON,
    Kind.WRONG_PROTOCOL,
    Kind.TOO_LARGE,
    Kind.BAD_ENCODING,
}


class HeadersCutError(http.client.HTTPException):
    """The connection ended inside the response headers, which http.client takes for their end."""


def failure(cluster: str, kind: Kind, message: str) -> SourceError:
    """Return the exception of the class that *kind* belongs to."""
    if kind in _REJECTED:
        return SourceRejectedError(cluster, message, kind=kind)
    if kind in _MALFORMED:
        return SourceMalformedError(cluster, message, kind=kind)
    return SourceUnreachableError(cluster, message, kind=kind)


def clean_text(text: str, limit: int = _TEXT_CHARS) -> str:
    """Return one line of *text* without control or formatting characters, at most *limit* long."""
    line = "".join(char if char.isprintable() else " " for char in text[: 4 * limit])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def translate(cluster: str, error: BaseException) -> SourceError:
    """Return our exception for one that requests, urllib3, ssl or the operating system raised."""
    causes = _causes(error)
    through_proxy = any(isinstance(one, urllib3.exceptions.ProxyError) for one in causes)
    for cause in causes:
        found = _known(cause)
        if found is not None and through_proxy and found[0] not in {Kind.PROXY, Kind.TIMEOUT}:
            message = f"the proxy cannot be used ({found[0]}); check proxy_url"
            return failure(cluster, Kind.PROXY, message)
        if found is not None:
            return failure(cluster, *found)
    message = f"the request failed ({type(error).__name__}); see the server's log"
    return failure(cluster, Kind.UNREACHABLE, message)


def gone_before_answer(error: BaseException) -> bool:
    """Tell whether the other side closed the connection without a byte of an answer."""
    return any(
        isinstance(
            cause,
            http.client.RemoteDisconnected
            | ConnectionResetError
            | BrokenPipeError
            | ssl.SSLEOFError
            | ssl.SSLZeroReturnError,
        )
        for cause in _causes(error)
    )


def _known(cause: BaseException) -> tuple[Kind, str] | None:
    """Classify one exception of the chain; None when a deeper one says more."""
    found: tuple[Kind, str] | None = None
    match cause:
        case ssl.SSLCertVerificationError():
            text = clean_text(cause.verify_message or "verification failed")
            found = Kind.TLS, f"its certificate is not accepted ({text}); check tls.ca_file and url"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            found = Kind.TLS, "the TLS connection was closed; does the server speak TLS here?"
        case ssl.SSLError():
            text = clean_text((cause.reason or "failure").replace("_", " ").lower())
            found = Kind.TLS, f"TLS failed ({text}); check url's scheme and tls in its settings"
        case socket.gaierror():
            found = Kind.DNS, f"its name cannot be resolved ({cause.strerror}); check url and DNS"
        case ConnectionRefusedError():
            found = Kind.REFUSED, "the connection is refused; is the server up, is the port right?"
        case HeadersCutError() | http.client.RemoteDisconnected() | ConnectionError():
            found = Kind.RESET, "the connection was cut before the answer; see the server's log"
        case TimeoutError() | urllib3.exceptions.TimeoutError():
            found = Kind.TIMEOUT, "no answer in time; is it reachable, is it overloaded?"
        case _:
            found = _known_library(cause)
    return found


def _known_library(cause: BaseException) -> tuple[Kind, str] | None:
    match cause:
        case (
            http.client.IncompleteRead()
            | urllib3.exceptions.IncompleteRead()
            | urllib3.exceptions.InvalidChunkLength()
        ):
            return Kind.TRUNCATED, "the answer was cut off; see the server's and the proxies' logs"
        case http.client.HTTPException():
            name = type(cause).__name__
            return Kind.WRONG_PROTOCOL, f"what answers does not speak HTTP ({name}); check url"
        case OSError() if isinstance(cause.errno, int) and not isinstance(
            cause, requests.RequestException
        ):
            text = clean_text(cause.strerror or type(cause).__name__)
            return Kind.UNREACHABLE, f"it cannot be reached ({text}); check the network"
        case OSError() if str(cause).startswith("Tunnel connection failed"):
            text = clean_text(str(cause), 60)
            return Kind.PROXY, f"the proxy refused the connection ({text}); check proxy_url"
        case _:
            return None


def _causes(error: BaseException) -> list[BaseException]:
    """Return the exceptions behind *error*, the innermost first, then *error* itself.

    requests and urllib3 keep them as an argument, as `reason` or as the cause.
    """
    seen: set[int] = set()
    order: list[BaseException] = []
    stack = [error]
    while stack and len(order) < 32:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        order.append(current)
        inner = (*current.args, getattr(current, "reason", None), current.__cause__)
        stack.extend(one for one in inner if isinstance(one, BaseException))
    return order[::-1]

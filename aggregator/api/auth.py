"""Who is asking, and whether a browser was led here by somebody else.

Tokens are compared in constant time and their files re-read when they change. Without tokens and
without a trusted proxy everybody who can reach us may read; on loopback, also change.
"""

import base64
import hmac
import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from aggregator.api.exchange import Caller
from aggregator.api.settings import ApiSettings, ApiToken, Role
from aggregator.errors import ConfigError

_LOG = structlog.get_logger(__name__)
ANONYMOUS = "anonymous"
_LOOK_AGAIN_SECONDS = 1.0
_MAX_TOKEN_BYTES = 16 * 1024
_MAX_HOST = 300  # a name has 253 characters at most; answers to longer ones would fill the memory


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What a file looked like when it was read."""

    modified_ns: int
    size: int
    inode: int


class _TokenFile:
    """The digest of a token that lives in a file, read again when the file changes."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._looked = clock()
        self._stamp: _Stamp | None = _stamp(path)
        self._digest: bytes | None = _read_digest(path)

    def digest(self) -> bytes | None:
        """Return the digest of the token, or None while the file cannot be used."""
        if self._clock() - self._looked >= _LOOK_AGAIN_SECONDS:
            self._looked = self._clock()
            try:
                stamp = _stamp(self._path)
                if stamp != self._stamp:
                    self._stamp, self._digest = stamp, _read_digest(self._path)
            except (OSError, ValueError) as error:
                if self._stamp is not None:
                    _LOG.error(
                        "a token file cannot be used; its token is refused until it can",
                        file=str(self._path),
                        error=type(error).__name__,
                    )
                self._stamp = self._digest = None
        return self._digest


class Authenticator:
    """Decides who a request comes from. Raises `ConfigError` for a token that cannot be read."""

    def __init__(
        self, settings: ApiSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._tokens = [
            (
                Caller(token.name, token.role, token.scope),
                _digest_source(token, f"api.tokens[{number}]", clock),
            )
            for number, token in enumerate(settings.tokens)
        ]
        _check_distinct(self._tokens)
        self._anonymous = Caller(ANONYMOUS, Role.OPERATOR if settings.on_loopback else Role.VIEWER)
        external = settings.external_url
        self._external = None if external is None else _origin(str(external))
        self._hosts = {host.lower() for host in settings.hosts}
        self._hosts |= {settings.host.lower(), "localhost"} - {""}
        if external is not None and external.host:
            self._hosts.add(external.host.lower())

    def caller(self, headers: Mapping[str, str], peer: str) -> Caller | None:
        """Return who asks, by header (names in lower case) and address; None if unknown."""
        proxy = self._settings.trusted_proxy
        if not self._tokens and proxy is None:
            return self._anonymous
        caller = self._by_token(_secret(headers.get("authorization", "")))
        if caller is not None:
            return caller
        if proxy is not None and _is_in(peer, proxy.addresses):
            user = headers.get(proxy.header.lower(), "")
            return Caller(user, proxy.role) if user else None
        return None

    def knows_host(self, header: str) -> bool:
        """Tell whether the Host header names us; a name that an attacker can point here does not.

        Addresses and names without a dot cannot be rebound by a foreign DNS server.
        """
        host = _host(header) if len(header) <= _MAX_HOST else ""
        return bool(host) and (host in self._hosts or "." not in host or _address(host) is not None)

    def knows_origin(self, origin: str | None, host_header: str) -> bool:
        """Tell whether the page that sent a change is one of ours; no browser, no Origin."""
        if origin is None:
            return True
        place = _origin(origin)
        if place is None:
            return False
        return place == self._external or origin.lower().partition("//")[2] == host_header.lower()

    def _by_token(self, secret: bytes) -> Caller | None:
        digest = sha256(secret).digest()
        found = [  # every token is compared, so that time tells nothing
            caller
            for caller, expected in self._tokens
            if hmac.compare_digest(expected() or b"", digest)
        ]
        if len(found) > 1:  # a file came to hold the secret of another token: whose rights count?
            names = [caller.name for caller in found]
            _LOG.error("tokens with the same secret are refused; change one", tokens=names)
            return None
        return found[0] if found else None


def is_led_here(method: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a page of another site had a browser send this, other than by a link to us.

    It could not read our answer, but make us work for it with the user's password. Browsers say so
    in their fetch metadata (https://www.w3.org/TR/fetch-metadata/); what is no browser does not.
    """
    if headers.get("sec-fetch-site") != "cross-site":
        return False
    opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return method != "GET" or opened != ("navigate", "document")


def _check_distinct(tokens: Sequence[tuple[Caller, Callable[[], bytes | None]]]) -> None:
    """Raise `ConfigError` for two tokens with one secret: it would not say whose rights count."""
    seen: dict[bytes | None, str] = {}
    for number, (caller, digest) in enumerate(tokens):
        if digest() in seen:
            message = f"{caller.name} and {seen[digest()]} have the same secret; give each its own"
            raise ConfigError(message, path=f"api.tokens[{number}]")
        seen[digest()] = caller.name


def _digest_source(
    token: ApiToken, path: str, clock: Callable[[], float]
) -> Callable[[], bytes | None]:
    if token.token_file is None:
        secret = b"" if token.token is None else token.token.get_secret_value().strip().encode()
        if not secret:
            raise ConfigError("the token is empty", path=f"{path}.token")
        digest = sha256(secret).digest()
        return lambda: digest
    try:
        return _TokenFile(token.token_file, clock).digest
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"cannot read the token from {token.token_file}: {reason}"
        raise ConfigError(message, path=f"{path}.token_file") from error


def _read_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        secret = file.read(_MAX_TOKEN_BYTES).strip()
    if not secret:
        raise ValueError("the file is empty")
    return sha256(secret).digest()


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def _secret(header: str) -> bytes:
    """Return the token of an Authorization header: bearer, or basic auth's password."""
    scheme, _, value = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip().encode("latin-1")  # the bytes as they were sent
        case "basic":
            try:
                return base64.b64decode(value, validate=True).partition(b":")[2].strip()
            except ValueError:  # not base64, or not even ASCII
                return b""
        case _:
            return b""


@lru_cache(maxsize=256)
def _host(header: str) -> str:
    """Return the host of a Host header that is a host and an optional port, else nothing."""
    if set(header) & set("/\\@?#% \t"):
        return ""
    try:
        parts = urlsplit(f"//{header}")
        usable = parts.port != 0
    except ValueError:
        return ""
    return (parts.hostname or "") if usable else ""


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of a page, or None if it has none (`null`, a file)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _is_in(peer: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    address = _address(peer)
    if address is None:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in networks)


@lru_cache(maxsize=256)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None

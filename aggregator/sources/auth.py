"""Credentials for requests, from settings, files that change, and commands.

A value lives in an object here and in the header that is sent; it is in no message and no repr.
"""

import base64
import os
import signal
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec
from pydantic import SecretStr

from aggregator.settings import ExecAuth, HttpAuth
from aggregator.sources.failures import Kind, failure
from aggregator.sources.tls import Signature, file_signature

_MAX_SECRET_BYTES = 65_536
_EXPIRY_MARGIN_SECONDS = 10


class CredentialError(Exception):
    """A credential cannot be had; the message names the place, never the content."""


class Secret(Protocol):
    """Where a secret comes from."""

    def read(self, timeout_seconds: float, *, again: bool) -> str:
        """Return the secret; with *again* from its origin even if nothing seems to have changed."""


class _Given:
    def __init__(self, value: SecretStr) -> None:
        self._value = value

    def read(self, timeout_seconds: float, *, again: bool) -> str:
        del timeout_seconds, again
        return self._value.get_secret_value()


class _File:
    """A file, read again when its modification time, size or inode changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: Signature = None
        self._value = ""

    def read(self, timeout_seconds: float, *, again: bool) -> str:
        del timeout_seconds
        signature = file_signature(self._path)
        if again or signature is None or signature != self._signature:
            self._value = self._content()
            self._signature = signature
        return self._value

    def _content(self) -> str:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_SECRET_BYTES + 1)
            value = content.decode().strip()
        except OSError as error:
            raise CredentialError(f"cannot read {self._path} ({error.strerror})") from error
        except UnicodeDecodeError:
            raise CredentialError(f"{self._path} is not text") from None
        if not value or len(content) > _MAX_SECRET_BYTES:
            raise CredentialError(f"{self._path} is {'too long' if value else 'empty'}")
        return value


class _Status(msgspec.Struct, gc=False):
    token: str
    expirationTimestamp: str = ""  # noqa: N815  Kubernetes's name


class _ExecCredential(msgspec.Struct, gc=False):
    status: _Status


class _Command:
    """A command that prints a token, run again when that has expired."""

    def __init__(self, settings: ExecAuth) -> None:
        self._settings = settings
        self._value = ""
        self._expires = 0.0

    def read(self, timeout_seconds: float, *, again: bool) -> str:
        if again or time.time() >= self._expires:
            output = self._run(min(timeout_seconds, self._settings.timeout / 1000))
            self._value, expires = self._token(output)
            self._expires = expires or time.time() + self._settings.ttl / 1000
        return self._value

    def _run(self, timeout_seconds: float) -> bytes:
        name = self._settings.command[0]
        try:
            process = subprocess.Popen(  # noqa: S603  the operator's own command, without a shell
                self._settings.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise CredentialError(f"cannot run {name} ({error.strerror})") from error
        with process:
            try:
                output, _ = process.communicate(timeout=timeout_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # and what it started, which holds the pipe
                raise CredentialError(f"{name} did not end in {timeout_seconds:.1f} s") from None
        if process.returncode != 0:
            raise CredentialError(f"{name} ended with status {process.returncode}; run it by hand")
        return output

    def _token(self, output: bytes) -> tuple[str, float]:
        """Return the token and when it expires (seconds UTC, 0 when that is not said)."""
        name = self._settings.command[0]
        expires = 0.0
        try:
            token = output[:_MAX_SECRET_BYTES].decode().strip()
            if token.startswith("{"):
                status = msgspec.json.decode(output, type=_ExecCredential).status
                token = status.token
                if status.expirationTimestamp:
                    at = datetime.fromisoformat(status.expirationTimestamp)
                    expires = at.timestamp() - _EXPIRY_MARGIN_SECONDS
        except ValueError:
            raise CredentialError(f"{name} printed neither a token nor ExecCredential") from None
        if not token:
            raise CredentialError(f"{name} printed no token")
        return token, expires


class Credentials:
    """The header that authenticates requests to one cluster. Safe to share between threads."""

    def __init__(self, cluster: str, auth: HttpAuth) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._name, self._prefix, self._user = "Authorization", "Bearer ", ""
        self._secret: Secret | None = None
        self._last = ""
        if auth.basic is not None:
            self._prefix, self._user = "Basic ", auth.basic.username
            self._secret = _secret(auth.basic.password, auth.basic.password_file)
        elif auth.header is not None:
            self._name, self._prefix = auth.header.name, ""
            self._secret = _secret(auth.header.value, auth.header.value_file)
        elif auth.exec is not None:
            self._secret = _Command(auth.exec)
        else:
            self._secret = _secret(auth.bearer_token, auth.bearer_token_file)

    def header(self, timeout_seconds: float, *, again: bool = False) -> tuple[str, str] | None:
        """Return the name and value of the header, None without credentials.

        With *again* the secret is read from its origin whatever seems to have changed. Raises
        `SourceRejectedError` if it cannot be had.
        """
        if self._secret is None:
            return None
        if not self._lock.acquire(timeout=timeout_seconds):  # another thread runs the command
            raise failure(self._cluster, Kind.TIMEOUT, "its credentials took too long; check auth")
        try:
            secret = self._last = self._secret.read(timeout_seconds, again=again)
        except CredentialError as error:
            message = f"no credentials: {error}; check auth"
            raise failure(self._cluster, Kind.AUTH, message) from error
        finally:
            self._lock.release()
        if self._prefix == "Basic ":
            return self._name, self._prefix + self._pair(secret)
        if not (secret.isascii() and secret.isprintable()):
            message = "the credentials have characters that no header may carry; check auth"
            raise failure(self._cluster, Kind.AUTH, message)
        return self._name, self._prefix + secret

    def redact(self, text: str) -> str:
        """Return *text* without the secret, for a server may repeat what it was sent."""
        secret = self._last
        if not secret:
            return text
        return text.replace(self._pair(secret), "***").replace(secret, "***")

    def _pair(self, secret: str) -> str:
        return base64.b64encode(f"{self._user}:{secret}".encode()).decode()


def _secret(given: SecretStr | None, file: Path | None) -> Secret | None:
    if given is not None:
        return _Given(given)
    return None if file is None else _File(file)

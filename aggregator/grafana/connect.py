"""The only door to Grafana: grafana-client, told everything it would otherwise guess.

grafana-client follows redirects, takes a login page for an answer, reads bodies of any size, and
joins a URL with a path wrongly. Here each call ends at a deadline as a JSON object or an error
that says what to do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import requests
from grafana_client import GrafanaApi
from grafana_client.client import GrafanaException, TokenAuth

from aggregator.errors import GrafanaError
from aggregator.grafana.settings import GrafanaSettings
from aggregator.sources.failures import clean_text, translate
from aggregator.sources.outbound import AnswerTooLargeError, BoundedSession

_MAX_BYTES = 16 * 2**20
_MAX_TOKEN_BYTES = 4_096

Json: TypeAlias = dict[str, Any]

_HINTS = {
    400: ("bad_request", "refuses the request"),
    401: (
        "auth",
        "does not accept the token; give that of a service account in grafana.token_file",
    ),
    403: ("forbidden", "does not let the token do this; the data source needs role Admin"),
    404: ("not_found", "knows nothing here; does grafana.url end where Grafana's pages begin?"),
    409: ("conflict", "says that somebody else changed or has this already"),
    412: ("conflict", "says that somebody else changed or has this already"),
    429: ("rate_limited", "is asked too often; it will be tried again"),
}


@contextmanager
def connect(settings: GrafanaSettings) -> Iterator[GrafanaApi]:
    """Give a client for one round of calls. Raises `GrafanaError` if the files cannot be used."""
    if settings.token_file is not None:
        token = read_token(settings.token_file)
    else:
        token = settings.token.get_secret_value() if settings.token is not None else ""
    base = str(settings.url).rstrip("/")
    ours = settings.datasource_token_file
    try:
        session = BoundedSession(
            timeout_seconds=settings.timeout / 1000,
            max_bytes=_MAX_BYTES,
            ca_file=settings.ca_file,
            hidden=(token,) if ours is None else (token, read_token(ours)),
        )
    except OSError as error:
        message = f"{settings.ca_file} cannot be used ({error.strerror or error})"
        raise GrafanaError(message, kind="tls") from error
    api = GrafanaApi.from_url(base + "/", TokenAuth(token), timeout=settings.timeout / 1000)
    api.client.s.close()
    api.client.s = session
    api.client.url = f"{base}/api"
    try:
        yield api
    finally:
        session.close()


def read_token(path: Path) -> str:
    """Return the token in the file *path*, read anew each time. Raises `GrafanaError`."""
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read as a token ({type(error).__name__})"
        raise GrafanaError(message, kind="auth") from error
    if not token.isprintable() or not token:
        raise GrafanaError(f"{path} holds no token", kind="auth")
    return token


def read(what: str, call: Callable[[], object]) -> Json | None:
    """Return what *call* reads, None if Grafana does not have it. Raises `GrafanaError`."""
    try:
        return write(what, call)
    except GrafanaError as error:
        if error.kind == "not_found":
            return None
        raise


def write(what: str, call: Callable[[], object]) -> Json:
    """Return the object that *call* answers. Raises `GrafanaError` naming *what* was asked for."""
    try:
        answer = call()
    except GrafanaException as error:
        raise _refused(what, error) from None
    except AnswerTooLargeError as error:
        raise GrafanaError(f"{what}: the answer is too large", kind="too_large") from error
    except requests.Timeout as error:
        message = f"{what}: no complete answer in time; is it reachable, is it overloaded?"
        raise GrafanaError(message, kind="timeout") from error
    except requests.JSONDecodeError:
        raise _login_page(what) from None
    except (requests.RequestException, OSError) as error:
        found = translate("grafana", error)
        raise GrafanaError(f"{what}: {found.detail}", kind=found.kind) from error
    if not isinstance(answer, dict):
        raise _login_page(what)
    return answer


def _refused(what: str, error: GrafanaException) -> GrafanaError:
    status = int(error.status_code)
    kind, hint = _HINTS.get(status, ("server_error", "has a problem; it will be tried again"))
    said = error.response.get("message", "") if isinstance(error.response, dict) else ""
    text = f" ({clean_text(str(said))})" if said else ""
    return GrafanaError(f"{what}: it {hint}: HTTP {status}{text}", kind=kind)


def _login_page(what: str) -> GrafanaError:
    message = "a page or a redirect answers instead of its API; is a login proxy in front of it?"
    return GrafanaError(f"{what}: {message}", kind="login_page")

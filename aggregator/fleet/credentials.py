"""When the credentials end with which we ask each cluster, as series."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aggregator.fleet.facts import Gauge
from aggregator.fleet.registry import Cluster
from aggregator.fleet.subjects import LOKI, PROMETHEUS
from aggregator.settings import HttpAuth, Tls
from aggregator.sources.expiry import certificate_expiry, token_expiry
from aggregator.sources.tls import Signature, file_signature

NAME = "fleet:credential_expiry_timestamp_seconds"
_MAX_BYTES = 65_536


@dataclass(slots=True)
class CredentialExpiry:
    """Reads when tokens and client certificates end; a file again when it has changed.

    What a command prints is left out: it is renewed whenever it has ended.
    """

    _files: dict[Path, tuple[Signature, float | None]] = field(default_factory=dict)

    def gauges(self, cluster: Cluster) -> Iterator[Gauge]:
        """Yield the end of each credential of *cluster* that tells it, in seconds since 1970."""
        sources = [(PROMETHEUS, cluster.prometheus.auth, cluster.prometheus.tls)]
        if cluster.loki is not None:
            sources.append((LOKI, cluster.loki.auth, cluster.loki.tls))
        for source, auth, tls in sources:
            ends = {"token": self._token(auth), "client_certificate": self._certificate(tls)}
            for credential, expires in ends.items():
                if expires is not None:
                    own = {"source": source, "credential": credential}
                    stamp = {"cluster": cluster.name, "region": cluster.region}
                    yield {"__name__": NAME, **own, **stamp}, expires

    def _token(self, auth: HttpAuth) -> float | None:
        given, file = auth.bearer_token, auth.bearer_token_file
        if auth.header is not None:
            given, file = auth.header.value, auth.header.value_file
        if given is not None:
            return _of_token(given.get_secret_value())
        return None if file is None else self._of_file(file, _of_token)

    def _certificate(self, tls: Tls) -> float | None:
        return None if tls.cert_file is None else self._of_file(tls.cert_file, certificate_expiry)

    def _of_file(self, path: Path, expiry: Callable[[str], float | None]) -> float | None:
        """Return what *expiry* says of the file's text; None if it cannot be read."""
        signature = file_signature(path)
        known = self._files.get(path)
        if known is None or known[0] != signature:
            known = self._files[path] = signature, expiry(_text(path))
        return known[1]


def _of_token(text: str) -> float | None:
    """Return when the token ends that stands last in a header's value."""
    return token_expiry(text.rsplit(maxsplit=1)[-1]) if text.strip() else None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii", "replace")
    except OSError:  # collection says so
        return ""

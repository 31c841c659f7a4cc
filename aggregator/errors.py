"""Every exception the aggregator raises on purpose.

Messages name the cluster, rule or key, say what to do, and never contain a secret.
"""

from pathlib import Path


class AggregatorError(Exception):
    """Base of every exception raised on purpose."""


class ConfigError(AggregatorError):
    """A configuration that cannot be used; the command line prints it and exits with 2."""

    def __init__(
        self, message: str, *, file: Path | None = None, line: int = 0, path: str = ""
    ) -> None:
        self.file, self.line, self.path = file, line, path
        place = "" if file is None else f"{file}:{line}: " if line else f"{file}: "
        super().__init__(f"{place}{path + ': ' if path else ''}{message}")


class SourceError(AggregatorError):
    """One cluster's server could not serve a request; other clusters go on."""

    def __init__(self, cluster: str, message: str, *, kind: str) -> None:
        self.cluster, self.kind, self.detail = cluster, kind, message
        super().__init__(f"cluster {cluster}: {message}")


class SourceUnreachableError(SourceError):
    """No usable answer arrived (network, timeout, 429, 5xx); worth another try later."""


class SourceRejectedError(SourceError):
    """The server refused the request (authentication, 4xx); the same request fails again."""


class SourceMalformedError(SourceError):
    """An answer arrived that is not what the protocol promises (HTML, truncated, too large)."""


class StoreError(AggregatorError):
    """The store could not read or write; collectors keep their watermark and try again."""


class QueryError(AggregatorError):
    """A query that cannot be answered; the API gives it in Prometheus's envelope."""


class QuerySyntaxError(QueryError):
    """The query text or a parameter is wrong (400 bad_data)."""


class QueryExecutionError(QueryError):
    """The query is well formed but cannot be carried out (422 execution)."""


class QueryTimeoutError(QueryError):
    """The query ran out of time or was cancelled (503 timeout)."""


class ServerError(AggregatorError):
    """A running aggregator could not be asked, or could not answer; `status` is 0 if none came."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class NotifyError(AggregatorError):
    """A receiver did not take a notification."""

    def __init__(self, receiver: str, message: str, *, retryable: bool) -> None:
        self.receiver, self.retryable = receiver, retryable
        super().__init__(f"receiver {receiver}: {message}")


class GrafanaError(AggregatorError):
    """Grafana could not be read or written; `kind` names why, the message says what to do."""

    def __init__(self, message: str, *, kind: str) -> None:
        self.kind = kind
        super().__init__(f"grafana: {message}")

"""Credentials of clusters: which of them tell when they end, and when a file is read again."""

from pathlib import Path

from aggregator.fleet.credentials import NAME, CredentialExpiry
from aggregator.fleet.registry import Registry
from aggregator.fleet.settings import ClusterSettings, CollectSettings
from tests.sources.test_expiry import jwt
from tests.sources.wire import authority


def found(expiry: CredentialExpiry, **settings: object) -> dict[str, float]:
    """Return what is said of a cluster: seconds by source and credential."""
    raw = {"name": "a", "region": "europe", **settings}
    [cluster] = Registry([ClusterSettings.model_validate(raw)], CollectSettings())
    rows = list(expiry.gauges(cluster))
    stamps = {(row["__name__"], row["cluster"], row["region"]) for row, _ in rows}
    assert stamps <= {(NAME, "a", "europe")}
    return {f"{row['source']} {row['credential']}": value for row, value in rows}


def test_what_tells_its_end(tmp_path: Path):
    """Tokens, also within a header, and client certificates, of each server; nothing else."""
    made = authority(tmp_path)
    tls = {"cert_file": tmp_path / "server.pem", "key_file": tmp_path / "server.key"}
    assert tls["cert_file"].exists(), made
    bearer = {"bearer_token": jwt({"exp": 1_800_000_000})}
    header = {"name": "Authorization", "value": f"Bearer {jwt({'exp': 1_900_000_000})}"}
    rows = found(
        CredentialExpiry(),
        prometheus={"url": "https://p", "auth": bearer, "tls": tls},
        loki={"url": "https://l", "auth": {"header": header}},
    )
    assert rows.pop("prometheus client_certificate") > 1_700_000_000
    assert rows == {"prometheus token": 1_800_000_000.0, "loki token": 1_900_000_000.0}
    silent = [
        {},
        {"bearer_token": "opaque"},
        {"bearer_token_file": tmp_path / "none"},
        {"basic": {"username": "u", "password": jwt({"exp": 1})}},
        {"exec": {"command": ["false"]}},
    ]
    for auth in silent:
        assert found(CredentialExpiry(), prometheus={"url": "https://p", "auth": auth}) == {}


def test_a_file_is_read_again_when_it_changes(tmp_path: Path):
    """A renewed token moves the end; one that went away has none."""
    path, expiry = tmp_path / "token", CredentialExpiry()
    settings = {"url": "https://p", "auth": {"bearer_token_file": path}}
    path.write_text(jwt({"exp": 1_800_000_000}) + "\n")
    assert found(expiry, prometheus=settings) == {"prometheus token": 1_800_000_000.0}
    path.write_text(jwt({"exp": 1_800_000_000.5}) + "\n")
    assert found(expiry, prometheus=settings) == {"prometheus token": 1_800_000_000.5}
    path.unlink()
    assert found(expiry, prometheus=settings) == {}

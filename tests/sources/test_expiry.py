"""Expiry of certificates and tokens, read off what they say themselves."""

import base64
import json
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.sources.expiry import certificate_expiry, token_expiry
from tests.sources.wire import openssl


def jwt(claims: object) -> str:
    """Return a JWT with these claims, signed by nobody."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.c2lnbmF0dXJl"


@pytest.mark.parametrize("days", [1, 30, 20_000])
def test_a_certificate_says_when_it_ends(tmp_path: Path, days: int):
    """`notAfter` is what OpenSSL reads, before and after 2050, whatever stands around it."""
    path = tmp_path / "client.pem"
    openssl("req", "-x509", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=client",
            "-days", str(days), "-keyout", str(tmp_path / "key.pem"),
            "-out", str(path))  # fmt: skip
    wanted = ssl._ssl._test_decode_cert(str(path))["notAfter"]
    found = certificate_expiry((tmp_path / "key.pem").read_text() + path.read_text())
    assert found == ssl.cert_time_to_seconds(wanted)


def test_a_token_says_when_it_ends():
    """The claim `exp` counts, of a JWT alone."""
    assert token_expiry(jwt({"sub": "fleet", "exp": 1_800_000_000})) == 1_800_000_000
    others = [jwt({"sub": "fleet"}), jwt({"exp": "soon"}), jwt([1]), "opaque", "a.b.c", "..", ""]
    assert [token_expiry(other) for other in others] == [None] * len(others)


@given(st.text() | st.binary().map(ssl.DER_cert_to_PEM_cert))
def test_nothing_does_harm(text: str):
    """What is neither a token nor a certificate has no end."""
    assert token_expiry(text) is None
    assert certificate_expiry(text) is None

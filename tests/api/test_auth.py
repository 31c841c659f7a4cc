"""Who a request comes from."""

import base64

import pytest

from aggregator.api.auth import Authenticator, is_led_here
from aggregator.api.exchange import Caller
from aggregator.api.settings import ApiSettings, Role
from aggregator.errors import ConfigError


def _authenticator(clock=lambda: 0.0, **settings):
    return Authenticator(ApiSettings.model_validate(settings), clock=clock)


def _bearer(token):
    return {"authorization": f"Bearer {token}"}


TOKENS = [
    {"name": "grafana", "token": "view", "role": "viewer"},
    {"name": "pager", "token": "change", "role": "operator"},
]


def test_without_tokens():
    """On loopback without tokens everybody is operator; elsewhere, insecurely, viewer."""
    assert _authenticator().caller({}, "127.0.0.1") == Caller("anonymous", Role.OPERATOR)
    elsewhere = _authenticator(listen="0.0.0.0:1", insecure=True)
    assert elsewhere.caller({}, "127.0.0.1") == Caller("anonymous", Role.VIEWER)


def test_tokens():
    """A token makes its role; anything else is nobody, also on loopback."""
    auth = _authenticator(tokens=TOKENS)
    assert auth.caller(_bearer("view"), "") == Caller("grafana", Role.VIEWER)
    assert auth.caller(_bearer("change"), "") == Caller("pager", Role.OPERATOR)
    basic = base64.b64encode(b"anybody:change").decode()
    assert auth.caller({"authorization": f"Basic {basic}"}, "") == Caller("pager", Role.OPERATOR)
    for value in ("", "Bearer", "Bearer ", "Bearer vie", "Bearer views", "view", "Basic !", "Basic",
                  "Basic \xe9", "Bearer view, Bearer change", "Digest view"):  # fmt: skip
        assert auth.caller({"authorization": value}, "127.0.0.1") is None
    assert auth.caller({}, "127.0.0.1") is None


def test_token_file(tmp_path):
    """A token file is read again when it changes, and its token refused while it cannot be."""
    file, now = tmp_path / "token", [0.0]
    file.write_text("first\n")
    auth = _authenticator(lambda: now[0], tokens=[{"name": "a", "token_file": str(file)}])
    assert auth.caller(_bearer("first"), "")
    file.write_text("second!\n")
    now[0] += 2
    assert auth.caller(_bearer("second!"), "")
    assert auth.caller(_bearer("first"), "") is None
    for broken in ("", None):
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        now[0] += 2
        assert auth.caller(_bearer("second!"), "") is None
        assert auth.caller(_bearer(""), "") is None
    file.write_text("third")
    now[0] += 2
    assert auth.caller(_bearer("third"), "")


def test_match():
    """A token's match comes with who shows it."""
    auth = _authenticator(tokens=[{"name": "a", "token": "x", "match": 'region="europe"'}])
    caller = auth.caller(_bearer("x"), "")
    assert [str(matcher) for matcher in caller.scope] == ['region="europe"']


def test_same_secret(tmp_path):
    """Two tokens with one secret are an error, and refused when a file comes to hold another's."""
    file, now = tmp_path / "token", [0.0]
    file.write_text("view")
    shared = [*TOKENS, {"name": "a", "token_file": str(file)}]
    with pytest.raises(
        ConfigError, match=r"tokens\[2\]: a and grafana have the same secret"
    ) as told:
        _authenticator(tokens=shared)
    assert "view" not in str(told.value)
    file.write_text("own")
    auth = _authenticator(lambda: now[0], tokens=shared)
    assert auth.caller(_bearer("view"), "") == Caller("grafana", Role.VIEWER)
    file.write_text("change")
    now[0] += 2
    assert auth.caller(_bearer("change"), "") is None
    assert auth.caller(_bearer("view"), "") == Caller("grafana", Role.VIEWER)


def test_secret_outside_of_ascii():
    """A token is compared by the bytes that were sent."""
    auth = _authenticator(tokens=[{"name": "a", "token": "gr\u00fcn"}])
    sent = "grün".encode().decode("latin-1")
    assert auth.caller({"authorization": f"Bearer {sent}"}, "")


def test_unreadable_token_file(tmp_path):
    """A token file that cannot be read at the start is a configuration error with its place."""
    tokens = [*TOKENS, {"name": "a", "token_file": str(tmp_path / "none")}]
    with pytest.raises(
        ConfigError, match=r"api.tokens\[2\].token_file: cannot read .*No such file"
    ):
        _authenticator(tokens=tokens)
    with pytest.raises(ConfigError, match=r"api.tokens\[0\].token: the token is empty"):
        _authenticator(tokens=[{"name": "a", "token": " "}])


def test_trusted_proxy():
    """The proxy's header counts from its addresses only, and nobody is anonymous beside it."""
    proxy = {"header": "X-Forwarded-User", "from": ["10.0.0.0/8", "127.0.0.1"], "role": "viewer"}
    auth = _authenticator(trusted_proxy=proxy)
    header = {"x-forwarded-user": "ana"}
    for peer in ("127.0.0.1", "10.1.2.3", "::ffff:127.0.0.1"):
        assert auth.caller(header, peer) == Caller("ana", Role.VIEWER)
        assert auth.caller({}, peer) is None
    for peer in ("192.0.2.1", "::1", "", "unix"):
        assert auth.caller(header, peer) is None


@pytest.mark.parametrize(
    ("host", "known"),
    [("127.0.0.1:9494", True), ("[::1]:9494", True), ("localhost", True), ("192.0.2.7:1", True),
     ("aggregator:9494", True), ("fleet.example.com", True), ("FLEET.example.com:443", True),
     ("inside.svc", True), ("evil.example", False), ("", False), ("fleet.example.com.evil", False),
     ("evil.example/fleet.example.com", False), ("user@evil.example", False), ("[::1", False),
     ("localhost:99999", False), ("localhost evil.example", False), ("a" * 1_000, False)],
)  # fmt: skip
def test_host(host, known):
    """A Host that a foreign DNS server can point at us is refused."""
    auth = _authenticator(external_url="https://fleet.example.com", hosts=["inside.svc"])
    assert auth.knows_host(host) is known


@pytest.mark.parametrize(
    ("origin", "known"),
    [(None, True), ("http://localhost:9494", True), ("https://fleet.example.com", True),
     ("https://fleet.example.com:8443", False), ("http://fleet.example.com", False),
     ("https://evil.example", False), ("null", False), ("", False), ("file://", False),
     ("https://fleet.example.com.evil.example", False), ("http://[", False)],
)  # fmt: skip
def test_origin(origin, known):
    """A change is taken from our own pages, and from what is no browser."""
    auth = _authenticator(external_url="https://fleet.example.com")
    assert auth.knows_origin(origin, "localhost:9494") is known


@pytest.mark.parametrize(
    ("method", "site", "mode", "dest", "led"),
    [("GET", None, None, None, False), ("GET", "same-origin", "cors", "empty", False),
     ("GET", "none", "navigate", "document", False), ("GET", "same-site", "cors", "empty", False),
     ("GET", "cross-site", "navigate", "document", False),
     ("POST", "cross-site", "navigate", "document", True),
     ("GET", "cross-site", "navigate", "iframe", True),
     ("GET", "cross-site", "no-cors", "image", True), ("GET", "cross-site", None, None, True)],
)  # fmt: skip
def test_led_here(method, site, mode, dest, led):
    """A page of another site may link to ours, and nothing else."""
    given = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    headers = {name: value for name, value in given.items() if value is not None}
    assert is_led_here(method, headers) is led

"""Settings of the HTTP interface."""

import pytest
from pydantic import ValidationError

from aggregator.api.settings import ApiSettings


@pytest.mark.parametrize("listen", ["127.0.0.1:9494", "localhost:1", "[::1]:9494", "127.9.9.9:0"])
def test_loopback_needs_no_token(listen):
    """Who listens on loopback only may do so without tokens."""
    assert ApiSettings(listen=listen).on_loopback


@pytest.mark.parametrize("listen", ["0.0.0.0:9494", ":9494", "[::]:9494", "192.0.2.1:80", "x:1"])
def test_elsewhere_needs_tokens(listen):
    """Who can be reached from other machines has tokens, or says that it is insecure."""
    with pytest.raises(ValidationError, match="add tokens, listen on"):
        ApiSettings(listen=listen)
    assert ApiSettings(listen=listen, insecure=True)
    token = {"name": "a", "token": "secret"}
    assert ApiSettings.model_validate({"listen": listen, "tokens": [token]})


@pytest.mark.parametrize("listen", ["", "9494", "a:b", "::1:80x", "::1", "127.0.0.1:99999"])
def test_malformed_address(listen):
    """An address is host:port."""
    with pytest.raises(ValidationError, match="host:port"):
        ApiSettings(listen=listen, insecure=True)


def test_tokens():
    """A token has one source and a name of its own, and never shows."""
    one = {"name": "a", "token": "planted-secret"}
    settings = ApiSettings.model_validate({"tokens": [one]})
    assert "planted-secret" not in repr(settings)
    for tokens in ([one, one], [{"name": "a"}], [{**one, "token_file": "/x"}], [{**one, "x": 1}]):
        with pytest.raises(ValidationError) as caught:
            ApiSettings.model_validate({"tokens": tokens})
        assert "planted-secret" not in str(caught.value)


def test_match():
    """A match is matchers as in PromQL's braces; one that restricts nothing by mistake is none."""
    token = {"name": "a", "token": "x", "match": 'region="europe", cluster!~"test.*"'}
    [made] = ApiSettings.model_validate({"tokens": [token]}).tokens
    assert [str(matcher) for matcher in made.scope] == ['region="europe"', 'cluster!~"test.*"']
    for match in (
        "",
        " ",
        ",",
        "up",
        'region=~"("',
        'region="a"} or {b="c"',
        'up{region="a"}',
        "#",
    ):
        with pytest.raises(ValidationError, match="match"):
            ApiSettings.model_validate({"tokens": [{**token, "match": match}]})

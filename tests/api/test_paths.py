"""Paths of requests."""

import pytest

from aggregator.api.paths import is_plain, label_name


@pytest.mark.parametrize(
    "path", [b"/", b"/docs", b"/api/v1/clusters/eu-1", b"/a/%C3%A9/b", b"/static/uplot.min.js"]
)
def test_plain(path):
    """An ordinary path is let through."""
    assert is_plain(path)


@pytest.mark.parametrize(
    "path",
    [b"", b"x", b"//", b"/a//b", b"/a/../b", b"/a/..", b"/./a", b"/a/%2e%2e/b", b"/a%2Fb",
     b"/a%5cb", b"/a\\b", b"/a%252Fb", b"/a%00", b"/a%0d%0ab", b"/a b", b"/a%zz", b"/a%",
     b"/" + b"a" * 5_000],
)  # fmt: skip
def test_ambiguous(path):
    """A path that two readers may understand differently is refused before it is routed."""
    assert not is_plain(path)


@pytest.mark.parametrize(
    ("segment", "name"),
    [("job", "job"), ("__name__", "__name__"), ("U__http_2e_status", "http.status"),
     ("U__a__b", "a_b"), ("U___e9_t_e9_", "été"), ("bad-name", None), ("1a", None), ("", None),
     ("U__", None), ("U__a_", None), ("U__a_zz_", None), ("U___d800_", None),
     ("U___ffffff_", None), ("U__plain", "plain")],
)  # fmt: skip
def test_label_name(segment, name):
    """A label name is plain or in the U__ form; everything else is none."""
    assert label_name(segment) == name

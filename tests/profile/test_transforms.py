import time

import pytest

from aggregator.profile.transforms import NAMESPACE_TRANSFORMS, TRANSFORMS

NAMESPACES = frozenset({"shop", "shop-eu", "kube-system"})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("class", "200", "2xx"),
        ("class", "2xx", "2xx"),
        ("class", "2XX", "2xx"),
        ("class", "2", "2xx"),
        ("class", "503", "5xx"),
        ("class", "0", "none"),
        ("class", "-", "none"),
        ("class", "2000", "other"),
        ("class", "5x", "other"),
        ("class", "other", "other"),
        ("class", "600", "other"),
        ("xx", "5", "5xx"),
        ("xx", "2xx", "2xx"),
        ("lower", "StatefulSet", "statefulset"),
        ("span_status", "STATUS_CODE_ERROR", "5xx"),
        ("span_status", "STATUS_CODE_UNSET", "2xx"),
        ("part1", "httproute/shop/cart/rule/0", "shop"),
        ("part2", "httproute/shop/cart/rule/0", "cart"),
        ("part2", "httproute/shop", ""),
        ("after_slash", "shop/cart", "cart"),
        ("after_slash", "cart", "cart"),
        ("join", "Kustomization/flux/apps", "Kustomization/flux/apps"),
        ("traefik_ns", "shop-web-80@kubernetes", "shop"),
        ("traefik_svc", "shop-web-80@kubernetes", "web"),
        ("traefik_ns", "shop-eu-web-http@kubernetescrd", "shop-eu"),
        ("traefik_svc", "shop-eu-web-http@kubernetescrd", "web"),
        ("traefik_svc", "shop-web@kubernetes", "web"),
        ("traefik_ns", "unknown-web-80@kubernetes", ""),
        ("traefik_svc", "unknown-web-80@kubernetes", "unknown-web-80"),
        ("traefik_ns", "shop-web@file", ""),
        ("traefik_svc", "shop-web@file", "shop-web"),
        ("traefik_svc", "plain", "plain"),
    ],
)
def test_transforms(name: str, text: str, expected: str):
    """Each transform turns the sources' spellings into the fleet's."""
    assert TRANSFORMS[name](text, NAMESPACES) == expected


def test_transforms_that_need_namespaces_exist():
    """The names of transforms that need namespaces are names of transforms."""
    assert TRANSFORMS.keys() > NAMESPACE_TRANSFORMS


def test_hyphens_cost_no_quadratic_time():
    """A name made of hyphens is split in the time of one that is not."""
    name = "-" * 4_000 + "@kubernetes"
    started = time.thread_time()
    for _ in range(1_000):
        TRANSFORMS["traefik_ns"](name, NAMESPACES)
    assert time.thread_time() - started < 1.0

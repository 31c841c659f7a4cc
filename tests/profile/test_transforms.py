import time

import pytest

from aggregator.profile.batch import LOOKED_UP
from aggregator.profile.nodes import node_names
from aggregator.profile.transforms import NEEDS, TRANSFORMS, Names

NAMES = Names(
    frozenset({"shop", "shop-eu", "kube-system"}),
    node_names([{"node": "n1", "internal_ip": "10.0.0.1"}], [], []),
)


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
        ("node", "10.0.0.1:9100", "n1"),
        ("node", "bastion:9100", ""),
        ("version", "v1.35.0", "v1.35.0"),
        ("version", "v1.31.7-eks-473151a", "v1.31.7"),
        ("version", "v1.33.1+k3s1", "v1.33.1"),
        ("version", "4.16.3", "v4.16.3"),
        ("version", "main-2026", "main-2026"),
    ],
)
def test_transforms(name: str, text: str, expected: str):
    """Each transform turns the sources' spellings into the fleet's."""
    assert TRANSFORMS[name](text, NAMES) == expected


def test_what_transforms_need_is_asked_for():
    """A transform that looks names up is one, and there is a question for what it needs."""
    assert TRANSFORMS.keys() > NEEDS.keys()
    assert {tag for tags in NEEDS.values() for tag in tags} == LOOKED_UP.keys()


def test_hyphens_cost_no_quadratic_time():
    """A name made of hyphens is split in the time of one that is not."""
    name = "-" * 4_000 + "@kubernetes"
    started = time.thread_time()
    for _ in range(1_000):
        TRANSFORMS["traefik_ns"](name, NAMES)
    assert time.thread_time() - started < 1.0

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.profile.answer import Labels
from aggregator.profile.nodes import node_names

NODES = [
    {"node": f"ip-10-0-0-{n}.eu-west-1.compute.internal", "internal_ip": f"10.0.0.{n}"}
    for n in range(1, 5)
]
NAMES = [row["node"] for row in NODES]


def hosts(*instances: str, **others: list[str]) -> list[Labels]:
    """Return what exporters at *instances* say, with further labels given as lists."""
    return [
        {"instance": instance, **{label: values[row] for label, values in others.items()}}
        for row, instance in enumerate(instances)
    ]


ADDRESSES = [f"10.0.0.{n}:9100" for n in range(1, 5)]
PODS = [f"exporter-{n}" for n in range(1, 5)]


@pytest.mark.parametrize(
    ("rows", "agents"),
    [
        (hosts(*ADDRESSES, node=NAMES), []),
        (hosts(*NAMES), []),
        (hosts(*(f"{name}:9100" for name in NAMES)), []),
        (hosts(*ADDRESSES), []),
        (hosts(*(f"192.168.7.{n}:9100" for n in range(4)), nodename=NAMES), []),
        (
            hosts(*(f"192.168.7.{n}:9100" for n in range(4)), namespace=["m"] * 4, pod=PODS),
            [{"namespace": "m", "pod": p, "node": n} for p, n in zip(PODS, NAMES, strict=True)],
        ),
    ],
    ids=["label", "instance", "instance with port", "address", "nodename", "pod"],
)
def test_instances_lead_to_nodes(rows: list[Labels], agents: list[Labels]):
    """Each of the ways in which clusters tell where an exporter runs is understood."""
    found = node_names(NODES, rows, agents)
    assert [found.of(row["instance"]) for row in rows] == NAMES


def test_the_way_that_covers_the_nodes_counts():
    """A label `node` that names something else is passed over for one that names the nodes."""
    rows = hosts(*ADDRESSES, node=["rack-1", "rack-1", NAMES[2], "rack-2"], nodename=NAMES)
    assert [node_names(NODES, rows, []).of(row["instance"]) for row in rows] == NAMES


def test_most_of_the_nodes_are_better_than_none():
    """With an exporter missing no way covers 95 %; that which names most of them counts."""
    rows = hosts("a:1", "b:1", "c:1", nodename=NAMES[:3], node=["x", "y", NAMES[0]])
    assert [node_names(NODES, rows, []).of(row["instance"]) for row in rows] == NAMES[:3]


def test_other_hosts_are_no_nodes():
    """A host that the cluster does not know as a node is filed without one."""
    found = node_names(NODES, hosts(*ADDRESSES, "bastion:9100", nodename=[*NAMES, "bastion"]), [])
    assert found.of("bastion:9100") == ""
    assert found.of("10.0.0.1:10250") == NAMES[0]  # another exporter of a node


def test_without_names_hosts_speak_for_themselves():
    """Where nobody lists the nodes, a host is its label, its own name or its address."""
    rows = hosts("10.0.0.1:9100", "10.0.0.2:9100", node=["n1", ""], nodename=["x", "n2"])
    found = node_names([], rows, [])
    assert [found.of(text) for text in ("10.0.0.1:9100", "10.0.0.2:9100")] == ["n1", "n2"]
    assert found.of("10.0.0.3:9100") == "10.0.0.3"
    assert found.of("[fd00::1]:9100") == "fd00::1"
    assert found.of("fd00::1") == "fd00::1"


def test_a_proxy_before_several_nodes_is_not_one_of_them():
    """A host that leads to several nodes by its ports says nothing about another port."""
    found = node_names(NODES, hosts("proxy:1", "proxy:2", nodename=NAMES[:2]), [])
    assert [found.of(f"proxy:{port}") for port in (1, 2, 3)] == [NAMES[0], NAMES[1], ""]


TEXT = st.sampled_from(["", "a", "b", "a:1", "b:2", "10.0.0.1", "10.0.0.1:9100", "x/y", "\n"])
ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(["node", "internal_ip", "instance", "nodename", "namespace", "pod"]), TEXT
    ),
    max_size=8,
)


@given(ROWS, ROWS, ROWS, st.randoms(use_true_random=False))
def test_only_nodes_are_named_and_order_does_not_matter(
    nodes: list[Labels], rows: list[Labels], agents: list[Labels], random: object
):
    """Whatever a cluster answers, what is named is one of its nodes, in any order of the rows."""
    found = node_names(nodes, rows, agents)
    shuffled = [random.sample(part, len(part)) for part in (nodes, rows, agents)]
    again = node_names(*shuffled)
    for text in ("a", "b:2", "10.0.0.1:9100", "elsewhere:1"):
        assert found.of(text) == again.of(text)
        if found.names:
            assert found.of(text) in {*found.names, ""}

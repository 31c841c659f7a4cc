"""Finds the node behind an exporter's `instance`, which clusters spell in many ways.

`node_exporter` says only where it was scraped. Whether that is a node's name, its address or
something to look up is found out once for the cluster: the way that names most of its nodes counts.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from aggregator.profile.answer import Labels

_ENOUGH = 0.95
_Way: TypeAlias = Callable[[Labels], str]


@dataclass(frozen=True, slots=True)
class NodeNames:
    """What is known about a cluster's nodes.

    `names` are the nodes themselves, none if the cluster does not tell. `by_instance` holds the
    instances that were looked up, `by_host` their hosts and the nodes' addresses, without port.
    """

    names: AbstractSet[str] = frozenset()
    by_instance: Mapping[str, str] | None = None
    by_host: Mapping[str, str] | None = None

    def of(self, instance: str) -> str:
        """Return the node of *instance*; nothing for a host that is none of the nodes.

        In a cluster that does not name its nodes a host stands for itself.
        """
        host = _host(instance)
        found = (self.by_instance or {}).get(instance) or (self.by_host or {}).get(host)
        if found is not None:
            return found
        if instance in self.names:
            return instance
        return host if host in self.names or not self.names else ""


def node_names(
    nodes: Sequence[Labels], hosts: Sequence[Labels], agents: Sequence[Labels]
) -> NodeNames:
    """Return what three answers say about the nodes.

    *nodes* have the labels `node` and `internal_ip`, *hosts* are exporters with `instance`, `node`,
    `nodename`, `namespace` and `pod`, and *agents* say which `node` an exporter's pod is on.
    """
    nodes, hosts, agents = _in_order(nodes), _in_order(hosts), _in_order(agents)
    names = {row.get("node", "") for row in nodes} - {""}
    addresses = {
        row["internal_ip"]: row["node"]
        for row in nodes
        if row.get("internal_ip") and row.get("node")
    }
    pods = {_pod(row): row.get("node", "") for row in agents}
    ways: tuple[_Way, ...] = (
        lambda row: row.get("node", ""),
        lambda row: _either(row.get("instance", ""), names),
        lambda row: addresses.get(_host(row.get("instance", "")), ""),
        lambda row: row.get("nodename", ""),
        lambda row: pods.get(_pod(row), ""),
    )
    found = _most_covering(ways, hosts, names) if names else _spoken_for(hosts)
    return NodeNames(names, found, _by_host(found) | addresses)


def _most_covering(
    ways: Sequence[_Way], hosts: Sequence[Labels], names: AbstractSet[str]
) -> dict[str, str]:
    """Return the nodes of the instances by the first way that names 95 % of them, or else most."""
    best: dict[str, str] = {}
    for way in ways:
        pairs = ((row.get("instance", ""), way(row)) for row in hosts)
        found = {instance: node for instance, node in pairs if node in names}
        if len({*found.values()}) > len({*best.values()}):
            best = found
        if len({*best.values()}) >= _ENOUGH * len(names):
            break
    return best


def _spoken_for(hosts: Sequence[Labels]) -> dict[str, str]:
    """Return what hosts call themselves, where nobody knows the nodes."""
    said = {row.get("instance", ""): row.get("node") or row.get("nodename") for row in hosts}
    return {instance: name for instance, name in said.items() if name}


def _by_host(found: Mapping[str, str]) -> dict[str, str]:
    """Return the nodes by host; one that leads to several nodes, as a proxy does, is left out."""
    nodes: dict[str, set[str]] = {}
    for instance, node in found.items():
        nodes.setdefault(_host(instance), set()).add(node)
    return {host: only for host, (only, *others) in nodes.items() if not others}


def _in_order(rows: Sequence[Labels]) -> list[Labels]:
    """Return *rows* so that it does not matter in which order they came."""
    return sorted(rows, key=lambda row: sorted(row.items()))


def _either(instance: str, names: AbstractSet[str]) -> str:
    return instance if instance in names else _host(instance)


def _pod(row: Labels) -> tuple[str, str]:
    return row.get("namespace", ""), row.get("pod", "")


def _host(instance: str) -> str:
    """Return `host:port` without the port, also of `[::1]:9100`."""
    host, colon, port = instance.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):
        return instance
    return host.strip("[]")

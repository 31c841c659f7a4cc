"""The four simulated clusters and what runs in them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from aggregator.model.arrays import Ints


class Ingress(Enum):
    """Which ingress controller a cluster has, and how its metrics are scraped."""

    NGINX = "ingress-nginx"
    NGINX_EXPORTED = "ingress-nginx, without honor_labels"
    TRAEFIK = "traefik"
    ISTIO = "istio"


@dataclass(frozen=True, slots=True)
class Workload:
    """A deployment: `requests` per second over all its pods, 0 for what serves no ingress."""

    namespace: str
    name: str
    replicas: int
    cores: float
    memory_mib: int
    requests: float = 0.0
    uses_database: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One simulated cluster."""

    name: str
    region: str
    seed: int
    nodes: int
    ingress: Ingress
    load: float
    affected: bool = False

    def node_names(self) -> list[str]:
        """Return the nodes' names."""
        return [f"{self.name}-node-{number}" for number in range(1, self.nodes + 1)]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod and how long it lives."""

    workload: Workload
    name: str
    replica_set: str
    node: str
    ip: str
    begin_ms: int
    end_ms: int

    @property
    def ip_number(self) -> int:
        """The last part of its address: what tells pods of one workload apart."""
        return int(self.ip.rsplit(".", 1)[1])


SITES: tuple[Site, ...] = (
    Site("ap-south-1-prod", "india", 11, 4, Ingress.ISTIO, 0.8),
    Site("eu-west-1-prod", "europe", 23, 5, Ingress.NGINX_EXPORTED, 1.2, affected=True),
    Site("eu-central-1-prod", "europe", 37, 4, Ingress.NGINX, 1.0, affected=True),
    Site("us-east-1-prod", "us", 53, 4, Ingress.TRAEFIK, 1.1),
)

WORKLOADS: tuple[Workload, ...] = (
    Workload("shop", "frontend", 3, 0.35, 300, 60.0),
    Workload("shop", "checkout", 3, 0.5, 420, 18.0, uses_database=True),
    Workload("shop", "catalog", 2, 0.3, 380, 45.0, uses_database=True),
    Workload("shop", "cart", 2, 0.2, 260, 22.0),
    Workload("payments", "ledger", 2, 0.25, 350, 9.0, uses_database=True),
    Workload("payments", "fraud", 2, 0.4, 600, 0.0),
    Workload("platform", "ingress-controller", 2, 0.3, 200),
    Workload("platform", "postgres-exporter", 1, 0.02, 40),
    Workload("monitoring", "kube-state-metrics", 1, 0.05, 120),
    Workload("kube-system", "coredns", 2, 0.08, 70),
)

# The incident begins with a rollout of this workload.
ROLLED_OUT = "checkout"
_FOREVER = 2**62


def pods(site: Site, rollouts: Ints) -> list[Pod]:
    """Return every pod the cluster ever has; each rollout replaces those of one workload."""
    nodes = site.node_names()
    found: list[Pod] = []
    for workload in WORKLOADS:
        rolled = site.affected and workload.name == ROLLED_OUT
        begins = [0, *rollouts.tolist()] if rolled else [0]
        ends = [*begins[1:], _FOREVER]
        for generation, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            replica_set = f"{workload.name}-{_suffix(site, workload, generation, 9)}"
            for number in range(workload.replicas):
                position = len(found)
                name = f"{replica_set}-{_suffix(site, workload, generation * 100 + number, 5)}"
                node = nodes[position % len(nodes)]
                address = f"10.{site.seed}.{position // 250}.{position % 250 + 2}"
                found.append(Pod(workload, name, replica_set, node, address, begin, end))
    return found


def served(workloads: Sequence[Workload] = WORKLOADS) -> Iterator[Workload]:
    """Yield the workloads that take requests from the ingress."""
    return (workload for workload in workloads if workload.requests)


def _suffix(site: Site, workload: Workload, number: int, length: int) -> str:
    """Return letters as Kubernetes makes them: no vowels, nothing to read into."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    digest = hashlib.sha256(f"{site.name}/{workload.name}/{number}".encode()).digest()
    return "".join(alphabet[byte % len(alphabet)] for byte in digest[:length])

"""What each simulated exporter exposes, with the names and labels of the real one."""

from aggregator.demo.exporters import ingress, kubernetes, node, services
from aggregator.demo.signals import Signal
from aggregator.demo.sites import Site, pods
from aggregator.model.arrays import Ints


def signals(site: Site, rollouts: Ints) -> list[Signal]:
    """Return every series of one cluster, for all time."""
    running = pods(site, rollouts)
    return [
        *node.signals(site),
        *kubernetes.signals(site, running),
        *ingress.signals(site),
        *services.signals(site),
    ]

"""A centralised, agentless observability aggregator for Kubernetes fleets."""

__version__ = "0.1.0"

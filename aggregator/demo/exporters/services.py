"""postgres_exporter, blackbox_exporter and CoreDNS."""

import math
from collections.abc import Mapping

from aggregator.demo.signals import CONSTANT, Signal, rhythm, scaled
from aggregator.demo.sites import Site

_DNS_BUCKETS = (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
_MAX_CONNECTIONS = 100.0


def signals(site: Site) -> list[Signal]:
    """Return the series of the database, the probes and the cluster DNS of *site*."""
    return [*_postgres(site), *_blackbox(site), *_coredns(site)]


def _postgres(site: Site) -> list[Signal]:
    place = {"job": "postgres-exporter", "instance": "shop-db:9187", "server": "shop-db:5432"}
    data = {**place, "datname": "shop"}
    full = _MAX_CONNECTIONS - 42.0 * site.load - 3.0 if site.affected else 0.0
    states = {
        "active": scaled(
            rhythm(f"{site.name}/active", 12.0 * site.load, 0.5), 1.0, pool=0.8 * full
        ),
        "idle": rhythm(f"{site.name}/idle", 25.0 * site.load, 0.2),
        "idle in transaction": {CONSTANT: 3.0 * site.load, "pool": 0.2 * full},
    }
    counters = {
        "xact_commit": rhythm(f"{site.name}/commit", 140.0 * site.load, 0.5),
        "xact_rollback": {CONSTANT: 0.4, "errors": 6.0 if site.affected else 0.0},
        "blks_hit": {CONSTANT: 21_000.0},
        "blks_read": {CONSTANT: 130.0},
        "deadlocks": {CONSTANT: 0.0002, "pool": 0.01 if site.affected else 0.0},
        "blk_read_time": {CONSTANT: 1.2},
    }
    return [
        _gauge("up", place, 1.0),
        _gauge("pg_up", place, 1.0),
        _gauge("pg_settings_max_connections", place, _MAX_CONNECTIONS),
        _gauge("pg_replication_lag_seconds", place, 0.4, noise=0.2),
        _gauge("pg_database_size_bytes", data, 4.2e10),
        *(
            Signal(
                {"__name__": "pg_stat_activity_count", **data, "state": state},
                mix,
                noise=1.0,
                whole=True,
            )
            for state, mix in states.items()
        ),
        *(
            Signal({"__name__": f"pg_stat_database_{name}", **data}, mix, counter=True, whole=True)
            for name, mix in counters.items()
        ),
    ]


def _blackbox(site: Site) -> list[Signal]:
    target = "https://shop.example.com/health"
    place = {"job": "blackbox", "instance": target}
    slow = 1.6 if site.affected else 0.0
    phases = {"resolve": 0.004, "connect": 0.02, "tls": 0.045, "processing": 0.08, "transfer": 0.01}
    found = [
        _gauge("up", place, 1.0),
        _gauge("probe_success", place, 1.0),
        _gauge("probe_http_status_code", place, 200.0),
        _gauge("probe_ssl_earliest_cert_expiry", place, 1_830_000_000.0),
        Signal(
            {"__name__": "probe_duration_seconds", **place},
            {CONSTANT: sum(phases.values()), "latency": slow},
            noise=0.02,
        ),
    ]
    for phase, seconds in phases.items():
        labels = {"__name__": "probe_http_duration_seconds", **place, "phase": phase}
        mix = {CONSTANT: seconds, "latency": slow if phase == "processing" else 0.0}
        found.append(Signal(labels, mix, noise=0.1 * seconds))
    return found


def _coredns(site: Site) -> list[Signal]:
    place = {"job": "coredns", "instance": "10.0.0.10:9153", "server": "dns://:53", "zone": "."}
    traffic = rhythm(f"{site.name}/dns", 220.0 * site.load, 0.5)
    rcodes = {"NOERROR": 0.93, "NXDOMAIN": 0.068, "SERVFAIL": 0.002}
    name = "coredns_dns_request_duration_seconds"
    found = [
        Signal({"__name__": "up", "job": "coredns", "instance": "10.0.0.10:9153"}, {CONSTANT: 1.0}),
        Signal(
            {"__name__": "coredns_dns_requests_total", **place, "proto": "udp", "type": "A"},
            traffic,
            counter=True,
            whole=True,
        ),
        Signal({"__name__": f"{name}_count", **place}, traffic, counter=True, whole=True),
        Signal({"__name__": f"{name}_sum", **place}, scaled(traffic, 0.0011), counter=True),
    ]
    for rcode, share in rcodes.items():
        labels = {"__name__": "coredns_dns_responses_total", **place, "rcode": rcode}
        found.append(Signal(labels, scaled(traffic, share), counter=True, whole=True))
    for bound in (*_DNS_BUCKETS, math.inf):
        share = 1.0 - math.exp(-bound / 0.0011)
        text = "+Inf" if bound == math.inf else f"{bound:g}"
        labels = {"__name__": f"{name}_bucket", **place, "le": text}
        found.append(Signal(labels, scaled(traffic, share), counter=True, whole=True))
    return found


def _gauge(name: str, labels: Mapping[str, str], value: float, noise: float = 0.0) -> Signal:
    return Signal({"__name__": name, **labels}, {CONSTANT: value}, noise=noise)

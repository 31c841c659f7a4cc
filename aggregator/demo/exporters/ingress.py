"""ingress-nginx, Traefik and Istio: requests, errors and latency, each in its own words."""

import math
from collections.abc import Mapping

from aggregator.demo.signals import CONSTANT, Signal, rhythm, scaled
from aggregator.demo.sites import Ingress, Site, Workload, served

_NGINX_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TRAEFIK_BUCKETS = (0.1, 0.3, 1.2, 5.0)  # Traefik's default, and all it has
_ISTIO_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_USUAL_MEDIAN, _SLOW_MEDIAN, _SPREAD = 0.06, 2.2, 0.6


def signals(site: Site) -> list[Signal]:
    """Return the series of the ingress controller of *site*."""
    make = {Ingress.TRAEFIK: _traefik, Ingress.ISTIO: _istio}.get(site.ingress, _nginx)
    job = {"job": site.ingress.value.split(",")[0], "instance": "10.0.0.5:10254"}
    found = [Signal({"__name__": "up", **job}, {CONSTANT: 1.0})]
    for workload in served():
        found += make(site, workload, job)
    return found


def _nginx(site: Site, workload: Workload, job: Mapping[str, str]) -> list[Signal]:
    own = {"ingress": workload.name, "host": f"{workload.name}.shop.example.com"}
    routed = {"namespace": workload.namespace, "service": workload.name}
    if site.ingress is Ingress.NGINX_EXPORTED:
        routed = {f"exported_{name}": value for name, value in routed.items()}
        routed |= {"namespace": "ingress-nginx", "service": "ingress-nginx-controller-metrics"}
    place = {**job, **own, **routed, "controller_class": "k8s.io/ingress-nginx"}
    found = [
        Signal(
            {"__name__": "nginx_ingress_controller_requests", **place, "status": status},
            mix,
            counter=True,
            whole=True,
        )
        for status, mix in _by_status(site, workload).items()
    ]
    for what, extra_seconds in (("request", 0.02), ("response", 0.0)):
        name = f"nginx_ingress_controller_{what}_duration_seconds"
        found += _histogram(
            name, place, site, workload, bounds=_NGINX_BUCKETS, extra_seconds=extra_seconds
        )
    return found


def _traefik(site: Site, workload: Workload, job: Mapping[str, str]) -> list[Signal]:
    service = f"{workload.namespace}-{workload.name}-8080@kubernetes"
    place = {**job, "service": service, "method": "GET", "protocol": "http"}
    found = [
        Signal(
            {"__name__": "traefik_service_requests_total", **place, "code": status},
            mix,
            counter=True,
            whole=True,
        )
        for status, mix in _by_status(site, workload).items()
    ]
    place["code"] = "200"
    name = "traefik_service_request_duration_seconds"
    return found + _histogram(
        name, place, site, workload, bounds=_TRAEFIK_BUCKETS, extra_seconds=0.0
    )


def _istio(site: Site, workload: Workload, job: Mapping[str, str]) -> list[Signal]:
    place = {
        **job,
        "reporter": "source",
        "source_workload": "istio-ingressgateway",
        "source_workload_namespace": "istio-system",
        "destination_service_namespace": workload.namespace,
        "destination_service_name": workload.name,
        "destination_workload": workload.name,
        "request_protocol": "http",
    }
    found = [
        Signal(
            {"__name__": "istio_requests_total", **place, "response_code": status},
            mix,
            counter=True,
            whole=True,
        )
        for status, mix in _by_status(site, workload).items()
    ]
    name = "istio_request_duration_milliseconds"
    place["response_code"] = "200"
    return found + _histogram(
        name, place, site, workload, bounds=_ISTIO_BUCKETS, extra_seconds=0.0, per_second=1000.0
    )


def _traffic(site: Site, workload: Workload) -> dict[str, float]:
    return rhythm(f"{site.name}/{workload.name}", workload.requests * site.load, 0.6)


def _hit(site: Site, workload: Workload, share: float) -> float:
    """Return how many requests per second an incident turns bad, at its height."""
    if not (site.affected and workload.uses_database):
        return 0.0
    return share * workload.requests * site.load * 0.4  # below what the rhythm leaves


def _by_status(site: Site, workload: Workload) -> dict[str, dict[str, float]]:
    traffic, failing = _traffic(site, workload), _hit(site, workload, 0.3)
    return {
        "200": scaled(traffic, 0.965, errors=-failing),
        "302": scaled(traffic, 0.02),
        "404": scaled(traffic, 0.012),
        "500": scaled(traffic, 0.002, errors=0.2 * failing),
        "503": scaled(traffic, 0.001, errors=0.8 * failing),
    }


def _histogram(
    name: str,
    place: Mapping[str, str],
    site: Site,
    workload: Workload,
    *,
    bounds: tuple[float, ...],
    extra_seconds: float,
    per_second: float = 1.0,
) -> list[Signal]:
    """Return buckets, sum and count of a mixture of usual and slow requests.

    *bounds* are in seconds; the histogram's unit is *per_second* times smaller.
    """
    traffic, slow = _traffic(site, workload), _hit(site, workload, 0.9)
    found = []
    for bound in (*bounds, math.inf):
        usual = _below(bound, _USUAL_MEDIAN + extra_seconds)
        mix = scaled(traffic, usual, latency=slow * (_below(bound, _SLOW_MEDIAN) - usual))
        text = "+Inf" if bound == math.inf else f"{bound * per_second:g}"
        labels = {"__name__": f"{name}_bucket", **place, "le": text}
        found.append(Signal(labels, mix, counter=True, whole=True))
    mean = math.exp(_SPREAD**2 / 2) * per_second
    total = scaled(
        traffic,
        (_USUAL_MEDIAN + extra_seconds) * mean,
        latency=slow * mean * (_SLOW_MEDIAN - _USUAL_MEDIAN),
    )
    found.append(Signal({"__name__": f"{name}_sum", **place}, total, counter=True))
    labels = {"__name__": f"{name}_count", **place}
    found.append(Signal(labels, traffic, counter=True, whole=True))
    return found


def _below(bound: float, median: float) -> float:
    """Return the share of a log-normal distribution below *bound*."""
    if bound == math.inf:
        return 1.0
    return 0.5 * (1 + math.erf(math.log(bound / median) / (_SPREAD * math.sqrt(2))))

"""kube-state-metrics and the kubelet's cAdvisor."""

from collections.abc import Mapping, Sequence

from aggregator.demo.signals import CONSTANT, EPOCH_SECONDS, Signal, rhythm, scaled
from aggregator.demo.sites import ROLLED_OUT, WORKLOADS, Pod, Site, Workload

_MIB = 2**20
_KSM = {"job": "kube-state-metrics", "instance": "10.0.0.9:8080"}
_VERSION = "v1.35.1"
_NAMESPACES = sorted({workload.namespace for workload in WORKLOADS})
_PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")


def signals(site: Site, pods: Sequence[Pod]) -> list[Signal]:
    """Return the series about nodes, workloads, pods and containers of *site*."""
    return [
        _ksm("up", {}, 1.0),
        *_api_server(),
        *(
            _ksm("kube_namespace_created", {"namespace": name}, EPOCH_SECONDS)
            for name in _NAMESPACES
        ),
        *(signal for node in site.node_names() for signal in _node(node)),
        *(signal for workload in WORKLOADS for signal in _deployment(site, workload)),
        *_replica_sets(pods),
        *(signal for pod in pods for signal in _pod(site, pod)),
        *(signal for pod in pods for signal in _container(site, pod)),
    ]


def _ksm(name: str, labels: Mapping[str, str], value: float, pod: Pod | None = None) -> Signal:
    begin, end = (0, 2**62) if pod is None else (pod.begin_ms, pod.end_ms)
    labels = {"__name__": name, **_KSM, **labels}
    return Signal(labels, {CONSTANT: value}, begin_ms=begin, end_ms=end)


def _api_server() -> list[Signal]:
    place = {"job": "apiserver", "instance": "10.0.0.1:6443"}
    return [
        Signal({"__name__": "up", **place}, {CONSTANT: 1.0}),
        Signal(
            {"__name__": "kubernetes_build_info", **place, "git_version": _VERSION}, {CONSTANT: 1.0}
        ),
    ]


def _node(node: str) -> list[Signal]:
    about = {
        "kubelet_version": _VERSION,
        "kernel_version": "6.12.48",
        "os_image": "Debian GNU/Linux 13 (trixie)",
        "container_runtime_version": "containerd://2.2.1",
    }
    found = [
        _ksm("kube_node_info", {"node": node, **about}, 1.0),
        _ksm("kube_node_role", {"node": node, "role": "worker"}, 1.0),
        _ksm("kube_node_created", {"node": node}, EPOCH_SECONDS),
        _ksm("kube_node_spec_unschedulable", {"node": node}, 0.0),
        Signal(
            {
                "__name__": "up",
                "job": "kubelet",
                "metrics_path": "/metrics",
                "node": node,
                "instance": f"{node}:10250",
            },
            {CONSTANT: 1.0},
        ),
        Signal(
            {
                "__name__": "machine_cpu_cores",
                "job": "kubelet",
                "metrics_path": "/metrics/cadvisor",
                "node": node,
                "instance": f"{node}:10250",
            },
            {CONSTANT: 4.0},
        ),
    ]
    for condition in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"):
        for status in ("true", "false", "unknown"):
            holds = status == ("true" if condition == "Ready" else "false")
            labels = {"node": node, "condition": condition, "status": status}
            found.append(_ksm("kube_node_status_condition", labels, float(holds)))
    sizes = (("cpu", "core", 4.0), ("memory", "byte", 16.0 * 2**30), ("pods", "integer", 110.0))
    for resource, unit, amount in sizes:
        labels = {"node": node, "resource": resource, "unit": unit}
        found.append(_ksm("kube_node_status_capacity", labels, amount))
        found.append(_ksm("kube_node_status_allocatable", labels, 0.95 * amount))
    return found


def _deployment(site: Site, workload: Workload) -> list[Signal]:
    labels = {"namespace": workload.namespace, "deployment": workload.name}
    missing = -0.6 if site.affected and workload.name == ROLLED_OUT else 0.0
    available = {"__name__": "kube_deployment_status_replicas_available", **_KSM, **labels}
    ready = {CONSTANT: workload.replicas + 0.5, "restarts": missing}
    return [
        _ksm("kube_deployment_spec_replicas", labels, float(workload.replicas)),
        _ksm("kube_deployment_status_replicas_updated", labels, float(workload.replicas)),
        Signal(available, ready, noise=0.45 if missing else 0.0, whole=True),
    ]


def _replica_sets(pods: Sequence[Pod]) -> list[Signal]:
    found: dict[str, list[Signal]] = {}
    for pod in pods:
        if pod.replica_set in found:
            continue
        labels = {"namespace": pod.workload.namespace, "replicaset": pod.replica_set}
        owner = {"owner_kind": "Deployment", "owner_name": pod.workload.name}
        created = max(pod.begin_ms / 1000, EPOCH_SECONDS)
        found[pod.replica_set] = [
            _ksm("kube_replicaset_created", labels, created, pod),
            _ksm("kube_replicaset_spec_replicas", labels, float(pod.workload.replicas), pod),
            _ksm("kube_replicaset_owner", {**labels, **owner}, 1.0, pod),
        ]
    return [signal for signals in found.values() for signal in signals]


def _pod(site: Site, pod: Pod) -> list[Signal]:
    labels = {"namespace": pod.workload.namespace, "pod": pod.name}
    container = {**labels, "container": pod.workload.name}
    owner = {"owner_kind": "ReplicaSet", "owner_name": pod.replica_set}
    failing = site.affected and pod.workload.name == ROLLED_OUT
    restarts = {"__name__": "kube_pod_container_status_restarts_total", **_KSM, **container}
    memory = float(pod.workload.memory_mib * _MIB)
    requests = (("cpu", "core", pod.workload.cores), ("memory", "byte", memory))
    found = [
        _ksm("kube_pod_info", {**labels, "node": pod.node, "pod_ip": pod.ip}, 1.0, pod),
        _ksm("kube_pod_owner", {**labels, **owner}, 1.0, pod),
        _ksm(
            "kube_pod_container_info", {**container, "image_spec": _image(pod.workload)}, 1.0, pod
        ),
        *(
            _ksm(
                "kube_pod_status_phase", {**labels, "phase": phase}, float(phase == "Running"), pod
            )
            for phase in _PHASES
        ),
        # About one restart in five minutes a pod, once its health checks fail.
        Signal(
            restarts,
            {"restarts": 1 / (200 + 40 * (pod.ip_number % 5))} if failing else {},
            counter=True,
            whole=True,
            begin_ms=pod.begin_ms,
            end_ms=pod.end_ms,
        ),
    ]
    for resource, unit, amount in requests:
        kind = {**container, "resource": resource, "unit": unit, "node": pod.node}
        found.append(_ksm("kube_pod_container_resource_requests", kind, amount, pod))
        found.append(_ksm("kube_pod_container_resource_limits", kind, 2.0 * amount, pod))
    return found


def _image(workload: Workload) -> str:
    return f"registry.example.com/{workload.namespace}/{workload.name}:1.4"


def _container(site: Site, pod: Pod) -> list[Signal]:
    workload = pod.workload
    place = {
        "job": "kubelet",
        "metrics_path": "/metrics/cadvisor",
        "node": pod.node,
        "instance": f"{pod.node}:10250",
        "namespace": workload.namespace,
        "pod": pod.name,
        "container": workload.name,
        "image": _image(workload),
    }
    slow = 0.4 * workload.cores if site.affected and workload.uses_database else 0.0
    cpu = rhythm(pod.name + "/cpu", 0.6 * workload.cores * site.load, 0.5)
    memory = rhythm(pod.name + "/memory", 0.7 * workload.memory_mib * _MIB, 0.2)
    begin, end = pod.begin_ms, pod.end_ms
    counters = {
        "container_cpu_usage_seconds_total": scaled(cpu, 1.0, latency=slow),
        "container_cpu_cfs_periods_total": {CONSTANT: 10.0},
        "container_cpu_cfs_throttled_periods_total": {CONSTANT: 0.2, "latency": 4 * slow},
    }
    found = [
        Signal({"__name__": name, **place}, mix, counter=True, begin_ms=begin, end_ms=end)
        for name, mix in counters.items()
    ]
    working_set = {"__name__": "container_memory_working_set_bytes", **place}
    grown = 0.15 * workload.memory_mib * _MIB if slow else 0.0
    mix = scaled(memory, 1.0, restarts=grown)
    found.append(Signal(working_set, mix, noise=_MIB, whole=True, begin_ms=begin, end_ms=end))
    return found

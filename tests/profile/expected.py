"""What fleet metrics must say about an exposition: plain Python over its parsed text.

Nothing here knows the profile: each function says in its own words what a metric means. Counters of
an exposed component grow by a thousandth of their value a second, in all buckets alike.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping

from tests.profile.texts import Key, Text, Values, grouped, histogram, quantile, real, up_to

GROWTH = 0.001
Expectation = Callable[[Text], Values]


def _requested(text: Text, kind: str, resource: str) -> Values:
    """Return what containers of pods that hold resources ask for, by namespace."""
    holding = {
        (labels["namespace"], labels["pod"])
        for phase in ("Pending", "Running")
        for labels, value in text.rows("kube_pod_status_phase", phase=phase)
        if value == 1
    }
    rows = text.rows(f"kube_pod_container_resource_{kind}", resource=resource)
    each = grouped(rows, ("namespace", "pod", "container"), max)
    return up_to({key: value for key, value in each.items() if key[:2] in holding}, 1)


def _workloads(text: Text) -> dict[Key, tuple[str, str]]:
    """Return kind and name of what each pod belongs to."""
    found = {}
    for labels, _ in text.rows("kube_pod_owner"):
        kind, name = labels["owner_kind"], labels["owner_name"]
        if kind == "ReplicaSet":
            kind, name = "Deployment", name.rsplit("-", 1)[0]
        elif kind == "Job" and name[-8:].isdecimal() and name[-9:-8] == "-":
            name = name[:-9]
        elif kind not in ("StatefulSet", "DaemonSet", "Job"):
            continue
        found[labels["namespace"], labels["pod"]] = (kind.lower(), name)
    return found


def _by_workload(text: Text, each: Values) -> Values:
    """Add up what is keyed by namespace, pod and more, by namespace, workload and its type."""
    workloads, out = _workloads(text), defaultdict(float)
    for key, value in each.items():
        owner = workloads.get(key[:2])
        if owner is not None:
            out[key[0], owner[1], owner[0]] += value
    return dict(out)


def _containers(text: Text, name: str, factor: float = 1.0) -> Values:
    each = grouped(real(text.rows(name)), ("namespace", "pod", "container"), max)
    return {key: factor * value for key, value in each.items()}


def cpu_by_namespace(text: Text) -> Values:
    """Add up what containers use."""
    return up_to(_containers(text, "container_cpu_usage_seconds_total", GROWTH), 1)


def cpu_by_workload(text: Text) -> Values:
    """Add up what containers use, by what owns their pods."""
    return _by_workload(text, _containers(text, "container_cpu_usage_seconds_total", GROWTH))


def memory_by_workload(text: Text) -> Values:
    """Add up working sets, by what owns the pods."""
    return _by_workload(text, _containers(text, "container_memory_working_set_bytes"))


def memory_by_namespace(text: Text) -> Values:
    """Add up working sets."""
    return up_to(_containers(text, "container_memory_working_set_bytes"), 1)


def throttled(text: Text) -> Values:
    """Divide throttled periods by all periods."""

    def total(what: str) -> Values:
        rows = text.rows(f"container_cpu_cfs_{what}_total")
        return grouped([row for row in rows if row[0]["container"]], ("namespace",), sum)

    part, whole = total("throttled_periods"), total("periods")
    return {key: part[key] / value for key, value in whole.items() if value}


def fullest_container(text: Text) -> Values:
    """Return the highest share of a limit that is used."""
    used = _containers(text, "container_memory_working_set_bytes")
    rows = text.rows("kube_pod_container_resource_limits", resource="memory")
    limits = grouped(rows, ("namespace", "pod", "container"), max)
    shares = {key: used[key] / limit for key, limit in limits.items() if key in used}
    return up_to(shares, 1, max)


def node_pressure(text: Text) -> Values:
    """Return every condition but readiness."""
    rows = text.rows("kube_node_status_condition", status="true")
    return {
        (labels["condition"], labels["node"]): value
        for labels, value in rows
        if labels["condition"] != "Ready"
    }


def node_info(text: Text) -> Values:
    """Return what nodes run."""
    return {
        (
            labels["container_runtime_version"],
            labels["kernel_version"],
            labels["kubelet_version"],
            labels["node"],
            labels["os_image"],
        ): 1.0
        for labels, _ in text.rows("kube_node_info")
    }


def allocatable(resource: str) -> Expectation:
    """Return what pods may request of a node."""
    return lambda text: grouped(
        text.rows("kube_node_status_allocatable", resource=resource), ("node",), max
    )


def node_requests(resource: str) -> Expectation:
    """Return what is requested of a node."""
    return lambda text: grouped(
        text.rows("kube_pod_container_resource_requests", resource=resource), ("node",), sum
    )


def requested(kind: str, resource: str) -> Expectation:
    """Return what a namespace requests or may use."""
    return lambda text: _requested(text, kind, resource)


def total_of(name: str, **wanted: str) -> Expectation:
    """Return a sum over the whole cluster."""
    return lambda text: {(): sum(value for _, value in text.rows(name, **wanted))}


def replicas(deployment: str, statefulset: str, daemonset: str) -> Expectation:
    """Return one number of three kinds of workloads."""

    def values(text: Text) -> Values:
        names = {"deployment": deployment, "statefulset": statefulset, "daemonset": daemonset}
        return {
            (labels["namespace"], labels[kind], kind): value
            for kind, name in names.items()
            for labels, value in text.rows(name)
        }

    return values


def hpa_at_max(text: Text) -> Values:
    """Compare replicas with the most there may be."""
    prefix = "kube_horizontalpodautoscaler_"
    limits = grouped(
        text.rows(prefix + "spec_max_replicas"), ("horizontalpodautoscaler", "namespace"), max
    )
    now = grouped(
        text.rows(prefix + "status_current_replicas"),
        ("horizontalpodautoscaler", "namespace"),
        max,
    )
    return {key: float(value >= limits[key]) for key, value in now.items()}


def api_errors(text: Text) -> Values:
    """Divide 5xx answers by all."""
    rows = text.rows("apiserver_request_total")
    bad = sum(value for labels, value in rows if labels["code"].startswith("5"))
    return {(): bad / sum(value for _, value in rows)}


def api_latency(text: Text) -> Values:
    """Return the 99th percentile of what is no watch."""
    left_out = {"WATCH", "WATCHLIST", "CONNECT", "PROXY"}
    rows = text.rows("apiserver_request_sli_duration_seconds_bucket")
    return {(): quantile(0.99, histogram(row for row in rows if row[0]["verb"] not in left_out))}


def etcd_latency(text: Text) -> Values:
    """Return the 99th percentile of two operations."""
    names = {
        "wal_fsync": "etcd_disk_wal_fsync_duration_seconds_bucket",
        "backend_commit": "etcd_disk_backend_commit_duration_seconds_bucket",
    }
    return {(key,): quantile(0.99, histogram(text.rows(name))) for key, name in names.items()}


def versions(text: Text) -> Values:
    """Return the versions of API server and kubelets."""
    found = {("kubelet", row["kubelet_version"]): 1.0 for row, _ in text.rows("kube_node_info")}
    builds = {row["git_version"] for row, _ in text.rows("kubernetes_build_info")}
    return found | {("apiserver", build): 1.0 for build in builds}


def images(text: Text) -> Values:
    """Return the images of what is no Job."""
    workloads = _workloads(text)
    found = {}
    for labels, _ in text.rows("kube_pod_container_info"):
        kind, name = workloads.get((labels["namespace"], labels["pod"]), ("", ""))
        if kind in ("deployment", "statefulset", "daemonset"):
            key = (labels["container"], labels["image_spec"], labels["namespace"], name, kind)
            found[key] = 1.0
    return found


def received(text: Text) -> Values:
    """Add up what pods receive."""
    rows = [
        (labels, GROWTH * value)
        for labels, value in text.rows("container_network_receive_bytes_total")
        if labels["pod"] and labels["interface"] != "lo"
    ]
    return up_to(grouped(rows, ("namespace", "pod", "interface"), max), 1)


def cluster_cpu(text: Text) -> Values:
    """Return the busy share of the root cgroup."""
    used = text.one("container_cpu_usage_seconds_total", id="/")
    return {(): GROWTH * used / text.one("machine_cpu_cores")}


def trouble(text: Text) -> Values:
    """Pods that are pending, failed or not ready: nothing waits with a reason in these texts."""
    nodes = {
        (row["namespace"], row["pod"]): row.get("node", "") for row, _ in text.rows("kube_pod_info")
    }
    phases = {
        (row["namespace"], row["pod"]): row["phase"]
        for row, value in text.rows("kube_pod_status_phase")
        if value == 1
    }
    levels = {"Pending": 1.0, "Failed": 2.0, "Unknown": 2.0}
    found = {
        (pod[0], nodes[pod], pod[1], phase): levels[phase]
        for pod, phase in phases.items()
        if phase in levels
    }
    for row, value in text.rows("kube_pod_status_ready", condition="false"):
        pod = (row["namespace"], row["pod"])
        if value == 1 and phases.get(pod) == "Running":
            found[pod[0], nodes[pod], pod[1], "NotReady"] = 1.0
    return found


def node_busy(text: Text) -> Values:
    """Return the busy share of all CPUs."""
    rows = text.rows("node_cpu_seconds_total")
    busy = sum(v for labels, v in rows if labels["mode"] not in ("idle", "iowait", "steal"))
    return {("127.0.0.1",): GROWTH * busy / len(text.rows("node_cpu_seconds_total", mode="idle"))}


def node_steal(text: Text) -> Values:
    """Return the stolen share of all CPUs."""
    rows = text.rows("node_cpu_seconds_total", mode="steal")
    return {("127.0.0.1",): GROWTH * sum(value for _, value in rows) / len(rows)}


def node_memory(text: Text) -> Values:
    """Return the used share as old kernels tell it."""
    parts = ("MemFree", "Buffers", "Cached")
    free = sum(text.one(f"node_memory_{part}_bytes") for part in parts)
    return {("127.0.0.1",): 1 - free / text.one("node_memory_MemTotal_bytes")}


def node_disk(text: Text) -> Values:
    """Return the busy share of the busiest disk."""
    rows = text.rows("node_disk_io_time_seconds_total")
    skipped = ("loop", "ram", "sr")
    return {
        ("127.0.0.1",): GROWTH
        * max(value for labels, value in rows if not labels["device"].startswith(skipped))
    }


def node_share(part: str, whole: str) -> Expectation:
    """Return one number by another."""
    return lambda text: {("127.0.0.1",): text.one(part) / text.one(whole)}


# What is expected of a metric, by the values of its labels in the order of their names.
OF_KUBERNETES: Mapping[str, Expectation] = {
    "cluster_cpu_utilisation_ratio": cluster_cpu,
    "cluster_cpu_allocatable_cores": total_of("kube_node_status_allocatable", resource="cpu"),
    "cluster_memory_allocatable_bytes": total_of("kube_node_status_allocatable", resource="memory"),
    "namespace_cpu_usage_cores": cpu_by_namespace,
    "namespace_cpu_requests_cores": requested("requests", "cpu"),
    "namespace_cpu_limits_cores": requested("limits", "cpu"),
    "namespace_memory_requests_bytes": requested("requests", "memory"),
    "namespace_memory_limits_bytes": requested("limits", "memory"),
    "namespace_memory_working_set_bytes": memory_by_namespace,
    "namespace_cpu_throttled_ratio": throttled,
    "namespace_network_receive_bytes_per_second": received,
    "container_memory_limit_ratio_max": fullest_container,
    "workload_cpu_usage_cores": cpu_by_workload,
    "workload_memory_working_set_bytes": memory_by_workload,
    "workload_image_info": images,
    "workload_replicas_desired": replicas(
        "kube_deployment_spec_replicas",
        "kube_statefulset_replicas",
        "kube_daemonset_status_desired_number_scheduled",
    ),
    "workload_replicas_ready": replicas(
        "kube_deployment_status_replicas_available",
        "kube_statefulset_status_replicas_ready",
        "kube_daemonset_status_number_available",
    ),
    "workload_replicas_updated": replicas(
        "kube_deployment_status_replicas_updated",
        "kube_statefulset_status_replicas_updated",
        "kube_daemonset_status_updated_number_scheduled",
    ),
    "hpa_at_max": hpa_at_max,
    "namespace_pods": lambda text: grouped(
        text.rows("kube_pod_status_phase"), ("namespace", "phase"), sum
    ),
    "pods_in_trouble": trouble,
    "node_ready": lambda text: grouped(
        text.rows("kube_node_status_condition", condition="Ready", status="true"), ("node",), max
    ),
    "node_pressure": node_pressure,
    "node_unschedulable": lambda text: grouped(
        text.rows("kube_node_spec_unschedulable"), ("node",), max
    ),
    "node_info": node_info,
    "node_role_info": lambda text: grouped(text.rows("kube_node_role"), ("node", "role"), max),
    "node_pods": lambda text: grouped(
        [row for row in text.rows("kube_pod_info") if row[0].get("node")],
        ("node",),
        lambda found: float(len(found)),
    ),
    "node_cpu_allocatable_cores": allocatable("cpu"),
    "node_memory_allocatable_bytes": allocatable("memory"),
    "node_pods_allocatable": allocatable("pods"),
    "node_cpu_requests_cores": node_requests("cpu"),
    "node_memory_requests_bytes": node_requests("memory"),
    "cluster_nodes": lambda text: {("", ""): float(len(text.rows("kube_node_info")))},
    "apiserver_error_ratio": api_errors,
    "apiserver_latency_p99_seconds": api_latency,
    "etcd_latency_p99_seconds": etcd_latency,
    "etcd_has_leader": total_of("etcd_server_has_leader"),
    "etcd_db_size_bytes": total_of("etcd_mvcc_db_total_size_in_bytes"),
    "cluster_version_info": versions,
}
OF_NODE_EXPORTER: Mapping[str, Expectation] = {
    "node_cpu_utilisation_ratio": node_busy,
    "node_cpu_steal_ratio": node_steal,
    "node_memory_utilisation_ratio": node_memory,
    "node_disk_io_busy_ratio": node_disk,
    "node_cpu_pressure_ratio": lambda text: {
        ("127.0.0.1",): GROWTH * text.one("node_pressure_cpu_waiting_seconds_total")
    },
    "node_conntrack_used_ratio": node_share(
        "node_nf_conntrack_entries", "node_nf_conntrack_entries_limit"
    ),
}
OF_GATEKEEPER: Mapping[str, Expectation] = {
    "policy_violations": lambda text: {
        ("gatekeeper", labels["enforcement_action"]): value
        for labels, value in text.rows("gatekeeper_violations")
    },
}

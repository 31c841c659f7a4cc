"""node-exporter: CPU, memory, disks, network and pressure of every node."""

from aggregator.demo.signals import CONSTANT, Signal, rhythm, scaled
from aggregator.demo.sites import Ingress, Site

_CORES = 4
_GIB = 2**30
_BUSY_SHARE = {"user": 0.68, "system": 0.24, "softirq": 0.05, "irq": 0.01, "nice": 0.02}


def signals(site: Site) -> list[Signal]:
    """Return the series of all nodes of *site*."""
    return [signal for node in site.node_names() for signal in _node(site, node)]


def _node(site: Site, node: str) -> list[Signal]:
    # One cluster attaches the node's name as a label, the others relabel `instance` to it.
    place = {"job": "node-exporter", "instance": node}
    if site.ingress is Ingress.NGINX:
        place |= {"instance": f"{node}:9100", "node": node}
    return [
        Signal({"__name__": "up", **place}, {CONSTANT: 1.0}),
        Signal({"__name__": "node_uname_info", **place, "nodename": node}, {CONSTANT: 1.0}),
        *_cpu(site, node, place),
        *_memory(site, node, place),
        *_disk(site, node, place),
        *_network(site, node, place),
    ]


def _cpu(site: Site, node: str, place: dict[str, str]) -> list[Signal]:
    found = []
    for cpu in range(_CORES):
        busy = rhythm(f"{node}/{cpu}", 0.32 * site.load, 0.5)
        hot = 0.22 if site.affected else 0.0
        for mode, share in _BUSY_SHARE.items():
            labels = {"__name__": "node_cpu_seconds_total", **place, "cpu": str(cpu), "mode": mode}
            found.append(Signal(labels, scaled(busy, share, latency=hot * share), counter=True))
        idle = scaled(busy, -1.0, constant=0.985, latency=-hot)
        rest = {"idle": idle, "iowait": {CONSTANT: 0.01}, "steal": {CONSTANT: 0.005}}
        for mode, mix in rest.items():
            labels = {"__name__": "node_cpu_seconds_total", **place, "cpu": str(cpu), "mode": mode}
            found.append(Signal(labels, mix, counter=True))
    load = rhythm(f"{node}/load", 1.3 * site.load, 0.4)
    found.append(Signal({"__name__": "node_load1", **place}, load, noise=0.1))
    return found


def _memory(site: Site, node: str, place: dict[str, str]) -> list[Signal]:
    total = 16 * _GIB
    free = rhythm(f"{node}/memory", 0.45 * total / site.load, 0.15)
    pressed = -0.1 * total if site.affected else 0.0
    return [
        Signal({"__name__": "node_memory_MemTotal_bytes", **place}, {CONSTANT: total}),
        Signal(
            {"__name__": "node_memory_MemAvailable_bytes", **place},
            scaled(free, 1.0, restarts=pressed),
            noise=0.004 * total,
            whole=True,
        ),
        Signal({"__name__": "node_vmstat_oom_kill", **place}, {}, counter=True, whole=True),
    ]


def _disk(site: Site, node: str, place: dict[str, str]) -> list[Signal]:
    root = {**place, "device": "/dev/nvme0n1p1", "fstype": "ext4", "mountpoint": "/"}
    used = rhythm(f"{node}/disk", 38.0 * site.load, 0.05)
    avail = scaled(used, -float(_GIB), constant=100.0 * _GIB)
    busy = rhythm(f"{node}/io", 0.06, 0.6)
    return [
        Signal({"__name__": "node_filesystem_size_bytes", **root}, {CONSTANT: 100 * _GIB}),
        Signal({"__name__": "node_filesystem_avail_bytes", **root}, avail, whole=True),
        Signal(
            {"__name__": "node_disk_io_time_seconds_total", **place, "device": "nvme0n1"},
            busy,
            counter=True,
        ),
        *(
            Signal(
                {"__name__": f"node_pressure_{kind}_waiting_seconds_total", **place},
                rhythm(f"{node}/{kind}", level, 0.6),
                counter=True,
            )
            for kind, level in (("cpu", 0.04), ("io", 0.01), ("memory", 0.001))
        ),
    ]


def _network(site: Site, node: str, place: dict[str, str]) -> list[Signal]:
    card = {**place, "device": "eth0"}
    found = [
        Signal(
            {"__name__": f"node_network_{way}_bytes_total", **card},
            rhythm(f"{node}/{way}", 4e6 * site.load, 0.5),
            counter=True,
            whole=True,
        )
        for way in ("receive", "transmit")
    ]
    found += [
        Signal(
            {"__name__": f"node_network_{way}_{what}_total", **card},
            {CONSTANT: 0.002},
            counter=True,
            whole=True,
        )
        for way in ("receive", "transmit")
        for what in ("drop", "errs", "packets")
    ]
    found += [
        Signal(
            {"__name__": f"node_netstat_Tcp_{what}", **place},
            rhythm(f"{node}/{what}", rate, 0.3),
            counter=True,
            whole=True,
        )
        for what, rate in (("OutSegs", 5_000.0), ("RetransSegs", 4.0))
    ]
    return found

"""Clusters of several flavours: real Prometheus servers that scrape what real components expose."""

import lzma
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.expositions import ExposedCluster, Exposition
from tests.profile.asking import ask
from tests.servers import prometheus, scripted, wait_until

SCRAPE = "2s"
WINDOW = "30s"
_FULL_SECONDS = 34.0  # a window, and a scrape at either end of it
_AGE_SECONDS = 3600.0

# How kube-state-metrics 1 called what version 2 says with labels.
_OLD_NAMES = (
    (
        r"kube_pod_container_resource_(requests|limits)",
        {"cpu": "cpu_cores", "memory": "memory_bytes"},
    ),
    (
        r"kube_node_status_(allocatable|capacity)",
        {"cpu": "cpu_cores", "memory": "memory_bytes", "pods": "pods"},
    ),
)


@dataclass(frozen=True)
class Flavour:
    """One cluster: the text of each component, and the Prometheus that scrapes it."""

    texts: Mapping[str, str]
    url: str


def texts_of(folder: Path) -> dict[str, str]:
    """Return the texts in *folder* by component."""
    return {
        file.name.removesuffix(".prom.xz"): lzma.decompress(file.read_bytes()).decode()
        for file in sorted(folder.glob("*.prom.xz"))
    }


def first_generation(text: str) -> str:
    """Return what kube-state-metrics 1 would have said where version 2 says *text*."""
    old = ["# TYPE kube_hpa_spec_max_replicas gauge"]
    for line in text.splitlines():
        for pattern, resources in _OLD_NAMES:
            match = re.match(rf'({pattern})\{{(.*),resource="(\w+)",unit="\w+"(.*)\}} (\S+)$', line)
            if match is not None and match[4] in resources:
                old.append(f"{match[1]}_{resources[match[4]]}{{{match[3]}{match[5]}}} {match[6]}")
        if line.startswith("kube_horizontalpodautoscaler_s"):
            name = line.replace("kube_horizontalpodautoscaler_", "kube_hpa_", 1)
            old.append(name.replace("horizontalpodautoscaler=", "hpa=", 1))
    return "\n".join(old) + "\n"


def without_second_generation(text: str) -> str:
    """Return *text* without what kube-state-metrics 1 called otherwise."""
    new = re.compile("|".join(["kube_horizontalpodautoscaler_", *(p for p, _ in _OLD_NAMES)]))
    return "\n".join(line for line in text.splitlines() if not new.match(line)) + "\n"


def all_texts(shared: Path) -> dict[str, dict[str, str]]:
    """Return the components of each flavour."""
    folders = {
        folder.name: texts_of(folder)
        for folder in sorted((shared / "expositions").iterdir())
        if folder.is_dir()
    }
    ksm = folders["kubernetes-1.35"]["ksm"]
    old = first_generation(ksm)
    return {
        **folders,
        "kube-state-metrics 1": {"ksm": without_second_generation(ksm) + old},
        "kube-state-metrics 1 and 2": {"ksm": ksm + old},
    }


@contextmanager
def running(shared: Path, base: Path) -> Iterator[dict[str, Flavour]]:
    """Run every flavour side by side, until all rates have a full window."""
    with ExitStack() as stack:
        flavours = {}
        for number, (name, texts) in enumerate(all_texts(shared).items()):
            components = {key: Exposition.parse(text) for key, text in texts.items()}
            begun = time.monotonic() - _AGE_SECONDS
            cluster = ExposedCluster(components, dict.fromkeys(components, begun))
            cluster.url = stack.enter_context(scripted(cluster.answer)).url
            config = cluster.scrape_config(SCRAPE)
            server = stack.enter_context(prometheus(base / str(number), config))
            flavours[name] = Flavour(texts, server.url)
        for name, flavour in flavours.items():
            jobs = len(flavour.texts)
            full = f"count(up == 1 and up offset {_FULL_SECONDS:.0f}s == 1) == {jobs}"
            wait_until(lambda url=flavour.url, full=full: ask(url, full), 120, f"{name} is scraped")
        yield flavours

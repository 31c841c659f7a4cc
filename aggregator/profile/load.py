"""Loads profiles: bundled ones by name, others by path; later files add, change and remove."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from aggregator.documents import Document, Place, load_document, parse_document
from aggregator.errors import ConfigError
from aggregator.profile.format import (
    Candidate,
    Change,
    Derive,
    FleetMetric,
    Profile,
    ProfileFile,
)

# One file a signal group, in the order in which metrics are listed.
BUNDLED: Mapping[str, tuple[str, ...]] = {
    "kubernetes": (
        "cpu",
        "memory",
        "nodes",
        "pods",
        "workloads",
        "control-plane",
        "dns",
        "network",
        "ingress",
        "latency",
        "probes",
        "databases",
        "queues",
        "policies",
        "gitops",
        "cost",
        "certificates",
        "services",
        "logs",
    ),
}


def load_profile(names: str | Sequence[str], *, base: Path = Path()) -> Profile:
    """Return the profile of *names*: bundled names, or paths relative to *base*.

    A metric of a later file replaces the one of that name where it stood; new ones follow. A later
    file can also change the candidates of a metric, or remove it. Raises ConfigError with file,
    line and path.
    """
    reading = _Reading({}, {})
    for name in (names,) if isinstance(names, str) else names:
        for document in _documents(name, base):
            reading.add(document)
    reading.check_derived()
    return Profile(tuple(reading.metrics.values()))


def _documents(name: str, base: Path) -> Iterator[Document]:
    if name in BUNDLED:
        for part in BUNDLED[name]:
            resource = files("aggregator.profile").joinpath(name, f"{part}.yaml")
            yield parse_document(resource.read_bytes(), Path(name, f"{part}.yaml"))
    elif "/" in name or name.endswith((".yaml", ".yml")):
        yield load_document(base / name)
    else:
        known = ", ".join(BUNDLED)
        raise ConfigError(
            f"{name!r} is not a bundled profile ({known}); a file is given by its path"
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """The metrics of the files so far, and where each candidate was written."""

    metrics: dict[str, FleetMetric]
    places: dict[tuple[str, str], tuple[Document, Place]]

    def add(self, document: Document) -> None:
        """Take up a file's metrics, then what it changes and removes."""
        try:
            said = ProfileFile.model_validate(document.data)
        except ValidationError as error:
            raise document.problems(error)[0] from None
        for index, metric in enumerate(said.metrics):
            self.metrics[metric.name] = metric
            self._placed(metric.name, metric.candidates, document, ("metrics", index, "candidates"))
        for index, change in enumerate(said.change):
            self._change(change, document, ("change", index))
        for index, name in enumerate(said.remove):
            if self.metrics.pop(name, None) is None:
                raise document.error(("remove", index), f"there is no metric {name} to remove")

    def _change(self, change: Change, document: Document, place: Place) -> None:
        metric = self.metrics.get(change.name)
        if metric is None:
            raise document.error((*place, "name"), f"there is no metric {change.name} to change")
        strange = {*change.without} - {candidate.id for candidate in metric.candidates}
        if strange:
            message = f"{change.name} has no candidate {min(strange)}"
            raise document.error((*place, "without"), message)
        try:
            self.metrics[change.name] = change.of(metric)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise document.error(place, message) from None
        self._placed(change.name, change.before, document, (*place, "before"))
        self._placed(change.name, change.after, document, (*place, "after"))

    def _placed(
        self, name: str, candidates: Sequence[Candidate], document: Document, place: Place
    ) -> None:
        for index, candidate in enumerate(candidates):
            self.places[name, candidate.id] = document, (*place, index)

    def check_derived(self) -> None:
        """Refuse a `derive` whose metric, or whose labels, do not exist."""
        for metric in self.metrics.values():
            for candidate in metric.candidates:
                derive = candidate.derive
                problem = derive and _derive_problem(derive, metric, self.metrics)
                if problem:
                    document, place = self.places[metric.name, candidate.id]
                    raise document.error((*place, "derive"), problem)


def _derive_problem(
    derive: Derive, metric: FleetMetric, metrics: Mapping[str, FleetMetric]
) -> str | None:
    source = metrics.get(derive.metric)
    if source is None:
        return f"there is no metric {derive.metric}"
    if source.source is not metric.source:
        return f"{source.name} comes from {source.source.value}, not from {metric.source.value}"
    if any(candidate.derive is not None for candidate in source.candidates):
        return f"{source.name} is derived itself"
    kept = set(source.labels) - derive.part.keys()
    missing = (derive.part.keys() - set(source.labels)) | (set(metric.labels) - kept)
    return f"{source.name} has no label {min(missing)} to derive from" if missing else None

"""Loads profiles: bundled ones by name, others by path; later files add and override by name."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from aggregator.documents import Document, load_document, parse_document
from aggregator.errors import ConfigError
from aggregator.profile.format import Derive, FleetMetric, Profile, ProfileFile

BUNDLED = ("kubernetes",)


def load_profile(names: str | Sequence[str], *, base: Path = Path()) -> Profile:
    """Return the profile of *names*: bundled names, or paths relative to *base*.

    A metric of a later file replaces the one of that name where it stood; new ones follow.
    Raises ConfigError with file, line and path.
    """
    metrics: dict[str, FleetMetric] = {}
    origins: dict[str, tuple[Document, int]] = {}
    for name in (names,) if isinstance(names, str) else names:
        document = _document(name, base)
        for index, metric in enumerate(_metrics(document)):
            metrics[metric.name] = metric
            origins[metric.name] = document, index
    for metric in metrics.values():
        _check_derived(metric, metrics, *origins[metric.name])
    return Profile(tuple(metrics.values()))


def _document(name: str, base: Path) -> Document:
    if name in BUNDLED:
        resource = files("aggregator.profile").joinpath(f"{name}.yaml")
        return parse_document(resource.read_bytes(), Path(f"{name}.yaml"))
    if "/" in name or name.endswith((".yaml", ".yml")):
        return load_document(base / name)
    raise ConfigError(
        f"{name!r} is not a bundled profile ({', '.join(BUNDLED)}); a file is given by its path"
    )


def _metrics(document: Document) -> tuple[FleetMetric, ...]:
    try:
        return ProfileFile.model_validate(document.data).metrics
    except ValidationError as error:
        raise document.problems(error)[0] from None


def _check_derived(
    metric: FleetMetric, metrics: Mapping[str, FleetMetric], document: Document, index: int
) -> None:
    """Refuse a `derive` whose metric, or whose labels, do not exist."""
    for position, candidate in enumerate(metric.candidates):
        if candidate.derive is None:
            continue
        problem = _derive_problem(candidate.derive, metric, metrics)
        if problem:
            raise document.error(("metrics", index, "candidates", position, "derive"), problem)


def _derive_problem(
    derive: Derive, metric: FleetMetric, metrics: Mapping[str, FleetMetric]
) -> str | None:
    source = metrics.get(derive.metric)
    if source is None:
        return f"there is no metric {derive.metric}"
    if any(candidate.derive is not None for candidate in source.candidates):
        return f"{source.name} is derived itself"
    kept = set(source.labels) - derive.part.keys()
    missing = (derive.part.keys() - set(source.labels)) | (set(metric.labels) - kept)
    return f"{source.name} has no label {min(missing)} to derive from" if missing else None

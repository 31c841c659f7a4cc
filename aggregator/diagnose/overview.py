"""The whole fleet at a glance: every cluster's worst signal, and one sentence about it all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from aggregator.diagnose.signals import SIGNALS, Signal, format_age, format_value
from aggregator.fleet.view import ClusterView
from aggregator.promql.result import QueryResult

# Asks the central store: expression, time in ms → an instant vector. Raises QueryError.
Query = Callable[[str, int], QueryResult]


class Level(Enum):
    """How much trouble something is in; the order is worst first."""

    BAD = "bad"
    DEGRADED = "degraded"
    UNKNOWN = "unknown"
    OK = "ok"
    QUIET = "quiet"


ORDER = tuple(Level)

_FRESHNESS = {
    "ok": Level.OK,
    "late": Level.DEGRADED,
    "missing": Level.UNKNOWN,
    "unreachable": Level.UNKNOWN,
    "never": Level.QUIET,
    "maintenance": Level.QUIET,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest value of one signal of one cluster."""

    signal: str
    title: str
    value: float
    text: str
    level: Level


@dataclass(frozen=True, slots=True)
class Tile:
    """One cluster: its level, the word for it, and the one reading that matters most."""

    cluster: str
    level: Level
    word: str
    age_seconds: float | None
    age: str
    error: str
    worst: Reading | None


@dataclass(frozen=True, slots=True)
class RegionView:
    """One region: its clusters, worst first."""

    region: str
    level: Level
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything the first page says before its charts; regions come worst first."""

    verdict: str
    regions: tuple[RegionView, ...]
    time_seconds: float


def overview(views: Sequence[ClusterView], query: Query, now_ms: int) -> Overview:
    """Return the fleet at *now_ms*. Raises what *query* raises."""
    readings = _readings(query, now_ms)
    by_region: dict[str, list[Tile]] = {}
    for view in views:
        by_region.setdefault(view.region, []).append(_tile(view, readings.get(view.cluster, [])))
    regions = [
        RegionView(
            region, min((tile.level for tile in tiles), key=ORDER.index), _worst_first(tiles)
        )
        for region, tiles in by_region.items()
    ]
    regions.sort(key=lambda region: ORDER.index(region.level))
    return Overview(_verdict(regions), tuple(regions), now_ms / 1000)


def level_of(signal: Signal, value: float) -> Level:
    """Return how bad *value* is; what is not a number is unknown."""
    if value != value:  # noqa: PLR0124  NaN
        return Level.UNKNOWN
    if value >= signal.critical:
        return Level.BAD
    return Level.DEGRADED if value >= signal.warn else Level.OK


def _readings(query: Query, now_ms: int) -> Mapping[str, list[Reading]]:
    found: dict[str, list[Reading]] = {}
    for signal in SIGNALS:
        matrix = query(signal.query, now_ms).matrix
        if matrix is None:
            continue
        names = matrix.series.strings.texts(matrix.series.column("cluster"))
        for name, value, present in zip(
            names, matrix.values[:, 0].tolist(), matrix.present[:, 0].tolist(), strict=True
        ):
            if present:
                text = format_value(value, signal.unit)
                level = level_of(signal, value)
                reading = Reading(signal.name, signal.title, value, text, level)
                found.setdefault(name, []).append(reading)
    return found


def _tile(view: ClusterView, readings: Sequence[Reading]) -> Tile:
    fresh = _FRESHNESS[view.state]
    worst = min(readings, key=lambda reading: ORDER.index(reading.level), default=None)
    level, word = fresh, view.state
    if fresh in (Level.OK, Level.DEGRADED) and worst is not None:
        level = min(fresh, worst.level, key=ORDER.index)
        if level is worst.level:
            word = level.value
    age = "no data yet" if view.age_seconds is None else format_age(view.age_seconds)
    return Tile(view.cluster, level, word, view.age_seconds, age, view.error, worst)


def _worst_first(tiles: Iterable[Tile]) -> tuple[Tile, ...]:
    return tuple(sorted(tiles, key=lambda tile: (ORDER.index(tile.level), tile.cluster)))


def _verdict(regions: Sequence[RegionView]) -> str:
    tiles = [tile for region in regions for tile in region.tiles]
    if not tiles:
        return "No cluster is configured: add one to fleet.yaml and it is collected at once."
    parts = [_trouble(region) for region in regions if region.level in (Level.BAD, Level.DEGRADED)]
    unknown = [tile for tile in tiles if tile.level is Level.UNKNOWN]
    waiting = [tile for tile in tiles if tile.age_seconds is None and tile not in unknown]
    if unknown:
        named = ", ".join(f"{tile.cluster} ({tile.word}, {tile.age})" for tile in unknown[:3])
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        parts.append(f"Not checked for lack of data: {named}{more}.")
    if waiting:
        parts.append(f"Waiting for the first data of {len(waiting)} of {len(tiles)} clusters.")
    if not parts:
        count = "The only cluster is" if len(tiles) == 1 else f"All {len(tiles)} clusters are"
        parts.append(f"{count} fresh and no signal is above its limit.")
    return " ".join(parts)


def _trouble(region: RegionView) -> str:
    hit = [tile for tile in region.tiles if tile.level is region.level]
    word = "in trouble" if region.level is Level.BAD else "degraded"
    first = hit[0]
    reasons = (
        f"{first.worst.title.lower()} {first.worst.text} in {first.cluster}"
        if first.worst is not None and first.worst.level is region.level
        else f"{first.cluster} is {first.word}, data {first.age} old"
    )
    more = f" and {len(hit) - 1} more" if len(hit) > 1 else ""
    return f"{_title(region.region)} is {word}: {reasons}{more}."


def _title(region: str) -> str:
    return region.upper() if len(region) <= 2 else region[0].upper() + region[1:]

"""History: the values live ticks would have stored, in pieces, and gaps that it closes."""

from aggregator.collect.backfill import pieces
from aggregator.collect.cycle import ClusterCollector
from aggregator.collect.recorded import Batch
from aggregator.state.gaps import Gap
from tests.collect.stage import T0, Response, Row, Stage, profile

STEP = 15_000
HOUR = 3_600_000


def collector(stage: Stage, *exprs: str) -> ClusterCollector:
    """Return a collector of `fleet:<expr>` metrics."""
    return ClusterCollector(stage.cluster(), profile(*exprs), stage.context)


def read_all(collecting: ClusterCollector) -> None:
    """Read history until there is none left."""
    while collecting.read_history():
        pass


def test_pieces_share_their_ends():
    """The newest piece comes last, each begins where the older one ends."""
    batch = Batch.of(profile("m").bounds.values(), "")
    spans = [(piece.start_ms, piece.end_ms) for piece in pieces(batch, 0, 100, 30)]
    assert spans == [(0, 10), (10, 40), (40, 70), (70, 100)]


def test_two_hours_on_the_grid(stage: Stage):
    """A first collection reads two hours, newest first, on the grid of the live ticks."""
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, (at - T0) / 1000)]
    collecting = collector(stage, "m")
    collecting.cycle()
    assert collecting.history_pending
    assert collecting.read_history()
    assert stage.samples("fleet:m")["x=1"][0][0] == -HOUR // 2
    read_all(collecting)
    found = stage.samples("fleet:m")["x=1"]
    assert found == [(at, at / 1000) for at in range(-2 * HOUR, 1, STEP)]
    mark = stage.context.watermarks.get("a", "fleet:things")
    assert mark is not None
    assert (mark.data_until_ms, mark.first_data_ms) == (T0, T0 - 2 * HOUR)


def test_series_end_in_history(stage: Stage):
    """A series that ends in history gets a marker at its next instant, also between pieces."""
    ends = {"inside": T0 - 1_000_000 // STEP * STEP, "joint": T0 - HOUR // 2}

    def rows(at: int) -> list[Row]:
        return [({"x": x}, 1.0) for x, end in ends.items() if at <= end]

    stage.prometheus.vectors["m"] = lambda at: [*rows(at), ({"x": "lives"}, 1.0)]
    collecting = collector(stage, "m")
    collecting.cycle()
    read_all(collecting)
    for name, end in ends.items():
        found = stage.samples("fleet:m")[f"x={name}"]
        assert found[-2:] == [(end - T0, 1.0), (end - T0 + STEP, "stale")]
    assert "stale" not in [value for _, value in stage.samples("fleet:m")["x=lives"]]


def test_a_restart_closes_its_gap(stage: Stage):
    """What was missed while the process was down is a gap, read back and closed on evidence."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    first = collector(stage, "m")
    first.cycle()
    read_all(first)
    stage.clock[0] += HOUR
    again = collector(stage, "m")
    again.cycle()
    [gap] = stage.context.gaps.open("a")
    assert (gap.start_ms, gap.end_ms) == (T0, T0 + HOUR - STEP)
    assert gap.reason == "the aggregator was not running"
    read_all(again)
    assert stage.context.gaps.open("a") == ()
    closed = stage.context.gaps.listed("a", T0, T0 + HOUR)
    assert sum(gap.end_ms - gap.start_ms for gap in closed) == HOUR - STEP
    assert all("samples from" in gap.evidence for gap in closed)
    assert len(stage.samples("fleet:m")["x=1"]) == 3 * HOUR // STEP + 1


def test_what_is_older_stays_a_gap(stage: Stage):
    """Beyond two hours nothing is read at start; the ledger keeps that as open."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    collector(stage, "m").cycle()
    stage.clock[0] += 5 * HOUR
    again = collector(stage, "m")
    again.cycle()
    read_all(again)
    opened: tuple[Gap, ...] = stage.context.gaps.open("a")
    assert [(gap.start_ms, gap.end_ms) for gap in opened] == [(T0, T0 + 3 * HOUR - STEP)]


def test_failed_piece_is_read_later(stage: Stage):
    """A piece that fails stays for later, cut in half if it was too much."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, "m")
    collecting.cycle()
    stage.prometheus.fail = Response(503, b"")
    assert not collecting.read_history()
    assert collecting.history_pending
    stage.prometheus.fail = None
    read_all(collecting)
    assert len(stage.samples("fleet:m")["x=1"]) == 2 * HOUR // STEP + 1


def test_hopeless_history_is_given_up(stage: Stage):
    """After five failures in a row history is left alone; live ticks go on."""
    stage.prometheus.vectors["m"] = lambda _: [({"x": "1"}, 1.0)]
    collecting = collector(stage, "m")
    collecting.cycle()
    stage.prometheus.fail = Response(200, b"<html>", content_type="text/html")
    for _ in range(5):
        assert not collecting.read_history()
    assert not collecting.history_pending


def test_partial_history_ends_nothing(stage: Stage):
    """A partial answer's samples are stored; it writes no marker and closes no gap."""
    stage.prometheus.vectors["m"] = lambda at: [({"x": "1"}, 1.0)] if at < T0 - STEP else []
    stage.prometheus.vectors["n"] = lambda _: [({"x": "1"}, 1.0)]
    first = collector(stage, "m", "n")
    first.cycle()
    first._binder.bound = list(first._binder.profile.bounds.values())
    first._backfill.add(first._binder.bound, T0 - HOUR, T0, 1)
    stage.prometheus.warnings = ["store gateway away"]
    read_all(first)
    found = stage.samples("fleet:m")["x=1"]
    assert found
    assert "stale" not in [value for _, value in found]

"""Facts about the simulated fleet's values."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.demo.exporters import signals
from aggregator.demo.scenario import (
    ERRORS,
    Curve,
    Scenario,
    Switch,
    add_switch,
    curve,
    load_switches,
    rollouts,
)
from aggregator.demo.signals import Ensemble
from aggregator.demo.sites import SITES, Site
from aggregator.errors import ConfigError

NOW = 1_795_334_400_000
SLOW = (Switch(NOW - 900_000, Scenario.EUROPE_SLOW),)
TIMES = NOW - 7_200_000 + 15_000 * np.arange(481, dtype=np.int64)


def ensemble(site: Site, switches: tuple[Switch, ...] = SLOW) -> Ensemble:
    """Return every series of *site*."""
    return Ensemble.build(signals(site, rollouts(switches)), switches, site.seed)


def total(site: Site, name: str, **labels: str) -> np.ndarray:
    """Return the sum over time of the series of one name."""
    built = ensemble(site)
    rows = [
        row
        for row, signal in enumerate(built.signals)
        if {"__name__": name, **labels}.items() <= signal.labels.items()
    ]
    values, alive = built.values(TIMES)
    return np.where(alive[rows], values[rows], 0.0).sum(axis=0)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_cluster_has_few_distinct_series(site: Site) -> None:
    """A simulated cluster has at most 1,500 series and no two of one label set."""
    labels = [tuple(sorted(signal.labels.items())) for signal in signals(site, rollouts(SLOW))]
    assert len(labels) == len(set(labels)) <= 1_500


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_counters_never_fall(site: Site) -> None:
    """Every counter grows or stays, also while an incident comes and goes."""
    switches = (*SLOW, Switch(NOW - 300_000, Scenario.CALM))
    built = ensemble(site, switches)
    values, _ = built.values(TIMES)
    counter = np.array([signal.counter for signal in built.signals])
    assert (np.diff(values[counter], axis=1) >= 0).all()


def test_values_depend_on_nothing_but_their_arguments() -> None:
    """Two ensembles of equal arguments agree at every time, however the times are asked for."""
    whole, _ = ensemble(SITES[1]).values(TIMES)
    half, _ = ensemble(SITES[1]).values(TIMES[240:])
    assert np.array_equal(whole[:, 240:], half)


def test_an_incident_shows_in_europe_only() -> None:
    """After the rollout 503s rise in an affected cluster and nowhere else."""
    europe = total(SITES[2], "nginx_ingress_controller_requests", status="503")
    india = total(SITES[0], "istio_requests_total", response_code="503")
    assert europe[-1] - europe[-21] > 20 * (europe[20] - europe[0] + 1)
    assert india[-1] - india[-21] < 3 * (india[20] - india[0] + 1)


def test_a_rollout_replaces_pods() -> None:
    """The pods of the rolled-out workload end at the rollout and others begin."""
    replaced = [signal for signal in signals(SITES[1], rollouts(SLOW)) if signal.begin_ms]
    ended = [signal for signal in signals(SITES[1], rollouts(SLOW)) if signal.end_ms < 2**62]
    assert len(replaced) == len(ended) > 0
    assert {signal.begin_ms for signal in replaced} == {SLOW[0].time_ms}


@given(st.lists(st.tuples(st.integers(1, 4000), st.sampled_from(list(Scenario))), max_size=6))
def test_a_curve_is_a_share_and_its_integral_grows(steps: list[tuple[int, Scenario]]) -> None:
    """Whatever is switched when, a stage shows between 0 and 1 and its integral never falls."""
    switches = [Switch(second * 1000, scenario) for second, scenario in steps]
    shape = curve(switches, ERRORS)
    times = np.arange(0.0, 6000.0, 7.0)
    assert ((shape.at(times) >= 0) & (shape.at(times) <= 1)).all()
    assert (np.diff(shape.integral(times)) >= -1e-9).all()


def test_an_integral_is_exact() -> None:
    """The integral of a ramp from 0 to 1 over ten seconds is a half of them, then grows by 1."""
    ramp = Curve(np.array([0.0, 10.0]), np.array([0.0, 1.0]))
    assert ramp.integral(np.array([0.0, 5.0, 10.0, 12.0])).tolist() == [0.0, 1.25, 5.0, 7.0]


def test_switches_survive_in_their_file(tmp_path: Path) -> None:
    """What is added to the file is read back, in order."""
    file = tmp_path / "demo" / "scenario.json"
    added = (Switch(1, Scenario.EUROPE_SLOW), Switch(2, Scenario.CALM))
    for switch in added:
        add_switch(file, switch)
    assert load_switches(file) == added


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"time_ms": 1, "scenario": "nonsense"}]'])
def test_a_broken_switch_file_is_named(tmp_path: Path, text: str) -> None:
    """A file that is no list of switches is an error that says what to do."""
    file = tmp_path / "scenario.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"scenario\.json.*delete it"):
        load_switches(file)

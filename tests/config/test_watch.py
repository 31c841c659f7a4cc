"""Facts about reloading."""

from pathlib import Path

import pytest

from aggregator.config.document import FleetConfig
from aggregator.config.load import load_config
from aggregator.config.watch import ConfigWatch

GOOD = "clusters: [{name: %s, region: europe, prometheus: {url: 'http://127.0.0.1:1'}}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a configuration with one cluster."""
    path = tmp_path / "fleet.yaml"
    path.write_text("include: [more/*.yaml]\n" + GOOD % "one")
    return path


def reloaded(watch: ConfigWatch) -> tuple[str, list[FleetConfig]]:
    """Reload and return the words and what was applied."""
    applied: list[FleetConfig] = []
    return watch.reload(applied.append), applied


def test_nothing_changed(file: Path) -> None:
    """A file that stays as it is has not changed."""
    assert not ConfigWatch(file, load_config(file)).changed()


def test_a_new_cluster_is_applied(file: Path) -> None:
    """A changed file is read again and handed on."""
    watch = ConfigWatch(file, load_config(file))
    file.write_text(GOOD % "another")
    assert watch.changed()
    words, (config,) = reloaded(watch)
    assert (words, config.clusters[0].name) == ("reloaded", "another")
    assert not watch.changed()


def test_a_file_that_comes_counts_as_a_change(file: Path) -> None:
    """Files that begin to match an `include` pattern are noticed."""
    watch = ConfigWatch(file, load_config(file))
    (file.parent / "more").mkdir()
    (file.parent / "more" / "two.yaml").write_text(GOOD % "two")
    assert watch.changed()
    _, (config,) = reloaded(watch)
    assert [cluster.name for cluster in config.clusters] == ["one", "two"]


def test_a_broken_file_keeps_the_running_configuration(file: Path) -> None:
    """A broken file is not applied, is said, and is tried again only when it changes."""
    watch = ConfigWatch(file, load_config(file))
    file.write_text("clusters: [{name: one}]\n")
    words, applied = reloaded(watch)
    assert words.startswith("not reloaded: ")
    assert "fleet.yaml:1" in words
    assert applied == []
    assert not watch.changed()


def test_a_changed_profile_needs_a_restart(file: Path) -> None:
    """The rest of `collect` is applied, the profile is not."""
    watch = ConfigWatch(file, load_config(file))
    file.write_text("collect: {profile: [], interval: 15s}\n" + GOOD % "one")
    words, (config,) = reloaded(watch)
    assert words == "reloaded; needs a restart: collect.profile"
    assert (config.collect.profile, config.collect.interval) == ("kubernetes", 15_000)


def test_what_needs_a_restart_keeps_its_value(file: Path) -> None:
    """A changed store path is not applied, and the answer says that it needs a restart."""
    watch = ConfigWatch(file, load_config(file))
    file.write_text("store: {path: /elsewhere}\n" + GOOD % "one")
    words, (config,) = reloaded(watch)
    assert words == "reloaded; needs a restart: store"
    assert config.store.path == Path("./data")


@pytest.fixture
def read_at_start(file: Path) -> Path:
    """Return the folder of a configuration with a rule file, a folder of them and a profile."""
    base = file.parent
    (base / "rules").mkdir()
    for name in ("one.yaml", "rules/two.yaml", "own.yaml"):
        (base / name).write_text("# as it was\n")
    file.write_text(
        "rules: {files: [one.yaml, 'rules/*.yaml']}\n"
        "collect: {profile: [kubernetes, ./own.yaml]}\n" + GOOD % "one"
    )
    return base


@pytest.mark.parametrize("name", ["one.yaml", "rules/two.yaml", "rules/new.yaml", "own.yaml"])
def test_changed_rules_and_profiles_need_a_restart(read_at_start: Path, name: str) -> None:
    """A changed rule file or profile is noticed once, and said at each reload until a restart."""
    file = read_at_start / "fleet.yaml"
    watch = ConfigWatch(file, load_config(file))
    assert not watch.changed()
    (read_at_start / name).write_text("# changed since\n")
    assert watch.changed()
    words, (config,) = reloaded(watch)
    assert words == f"reloaded; needs a restart: {read_at_start / name}"
    assert [cluster.name for cluster in config.clusters] == ["one"]
    assert not watch.changed()
    assert reloaded(watch)[0] == words
    assert not ConfigWatch(file, load_config(file)).changed()


def test_a_rule_file_that_goes_needs_a_restart(read_at_start: Path) -> None:
    """The rules of a file that went apply until the restart, which would refuse its absence."""
    file = read_at_start / "fleet.yaml"
    watch = ConfigWatch(file, load_config(file))
    (read_at_start / "one.yaml").unlink()
    assert watch.changed()
    assert reloaded(watch)[0] == f"reloaded; needs a restart: {read_at_start / 'one.yaml'}"
    assert not watch.changed()

"""Facts about reading a configuration."""

import json
from pathlib import Path

import pytest

from aggregator.config.document import NOT_AVAILABLE
from aggregator.config.load import load_config
from aggregator.config.schema import json_schema
from aggregator.errors import ConfigError

GOOD = """\
clusters:
  - name: eu-1
    region: europe
    prometheus:
      url: http://127.0.0.1:9090
"""


def written(directory: Path, text: str, name: str = "fleet.yaml") -> Path:
    """Write *text* into a file and return its path."""
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def error(directory: Path, text: str, **environment: str) -> str:
    """Return the message that a wrong configuration gives."""
    with pytest.raises(ConfigError) as caught:
        load_config(written(directory, text), environment)
    return str(caught.value).removeprefix(f"{directory}/")


def test_an_empty_file_is_a_fleet_without_clusters(tmp_path: Path) -> None:
    """Everything has a default."""
    assert load_config(written(tmp_path, "")).config.clusters == ()


def test_a_cluster_needs_a_name_a_region_and_a_url(tmp_path: Path) -> None:
    """The smallest cluster is five lines."""
    (cluster,) = load_config(written(tmp_path, GOOD)).config.clusters
    assert (cluster.name, cluster.region, len(cluster.prometheus.urls)) == ("eu-1", "europe", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "    nonsense: 1\n", "fleet.yaml:6: clusters[0].nonsense: unknown key"),
        (GOOD.replace("http://", "nope"), "fleet.yaml:5: clusters[0].prometheus.url: "),
        (GOOD.replace("europe", "'a b'"), "fleet.yaml:3: clusters[0].region: "),
        (GOOD + GOOD.removeprefix("clusters:\n"), "fleet.yaml:6: clusters[1].name: the name eu-1"),
        (GOOD + "clusters: []\n", "fleet.yaml:6: clusters: the key was given in line 1"),
        ("collect: {interval: 2m}\n", "fleet.yaml:1: collect.interval: "),
        ("collect: {interval: soon}\n", "fleet.yaml:1: collect.interval: 'soon' is not a duration"),
        (
            GOOD + "    collect: {interval: 5m}\n",
            "fleet.yaml:6: clusters[0].collect.interval: must",
        ),
        (GOOD.replace("9090", "9090/?a=b"), "fleet.yaml:4: clusters[0].prometheus: a URL goes up"),
        (
            GOOD + "      selector: a b\n",
            "fleet.yaml:4: clusters[0].prometheus: selector: is not a",
        ),
        (
            "collect: {raw: [{match: 'up{'}]}\n",
            "fleet.yaml:1: collect.raw[0].match: is not a series",
        ),
        (
            "collect: {raw: [{match: up, interval: 5m}]}\n",
            "fleet.yaml:1: collect.raw[0].interval: mu",
        ),
        ("collect: {raw: [{match: up}, {match: up}]}\n", "fleet.yaml:1: collect.raw: two entries"),
        ("collect: {limits: {timeout: 0s}}\n", "fleet.yaml:1: collect.limits.timeout: "),
        ("store: {max_disk: much}\n", "fleet.yaml:1: store.max_disk: 'much' is not a size"),
        ("clusters: 3\n", "fleet.yaml:1: clusters: must be a list"),
        ("- 1\n", "fleet.yaml:1: must be a mapping"),
        ("clusters: [\n", "fleet.yaml:2: "),
        ("api: {listen: '0.0.0.0:1'}\n", "fleet.yaml:1: api: listen: 0.0.0.0:1 can be reached"),
        ("include: [/etc/*.yaml]\n", "fleet.yaml: include: patterns are relative"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_path(
    tmp_path: Path, text: str, message: str
) -> None:
    """Every refusal starts with the place."""
    assert error(tmp_path, text).startswith(message)


@pytest.mark.parametrize("place", NOT_AVAILABLE, ids=".".join)
def test_blocks_of_later_versions_are_refused(tmp_path: Path, place: tuple[str, ...]) -> None:
    """What this version does not act on is an error that says so."""
    document: object = {}
    for key in reversed(place):
        document = [document] if key == "*" else {key: document}
    message = error(tmp_path, json.dumps(document))
    assert "not available in this version" in message
    assert message.startswith("fleet.yaml:1: ")


def test_alias_bombs_are_refused(tmp_path: Path) -> None:
    """Aliases that expand to too much are an error before anything is built."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    ]
    assert "aliases expanded" in error(tmp_path, "\n".join(lines))


def test_environment_variables_replace_whole_scalars_only(tmp_path: Path) -> None:
    """`${NAME}` as a whole scalar is replaced, inside a text it is not."""
    text = GOOD.replace("europe", "${REGION}") + "    labels: {note: 'a ${REGION}'}\n"
    (cluster,) = load_config(written(tmp_path, text), {"REGION": "asia"}).config.clusters
    assert (cluster.region, cluster.labels["note"]) == ("asia", "a ${REGION}")


def test_an_absent_environment_variable_is_named(tmp_path: Path) -> None:
    """The error says which variable is not set, and where it is used."""
    text = GOOD.replace("europe", "${REGION}")
    assert error(tmp_path, text) == (
        "fleet.yaml:3: clusters[0].region: environment variable REGION is not set"
    )


def test_included_files_add_clusters(tmp_path: Path) -> None:
    """Files named by `include` add to the list, in the order of their names."""
    written(tmp_path, GOOD.replace("eu-1", "eu-3"), "clusters.d/b.yaml")
    written(tmp_path, GOOD.replace("eu-1", "eu-2"), "clusters.d/a.yaml")
    loaded = load_config(written(tmp_path, "include: [clusters.d/*.yaml]\n" + GOOD))
    assert [cluster.name for cluster in loaded.config.clusters] == ["eu-1", "eu-2", "eu-3"]
    assert len(loaded.files) == 3


def test_an_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    """The place of a mistake is where it was written."""
    written(tmp_path, GOOD.replace("europe", "'a b'"), "clusters.d/a.yaml")
    message = error(tmp_path, "include: [clusters.d/*.yaml]\n")
    assert message.startswith("clusters.d/a.yaml:3: clusters[0].region: ")


def test_an_included_file_holds_clusters_only(tmp_path: Path) -> None:
    """Fleet-wide settings have one place."""
    written(tmp_path, "store: {path: /x}\n", "clusters.d/a.yaml")
    message = error(tmp_path, "include: [clusters.d/*.yaml]\n")
    assert message == "clusters.d/a.yaml:1: store: an included file may only hold clusters"


def test_the_schema_describes_durations_as_text() -> None:
    """An editor that follows the schema accepts what the loader accepts."""
    lag = json_schema()["$defs"]["CollectSettings"]["properties"]["lag"]
    assert (lag["type"], lag["default"]) == ("string", "5s")


@pytest.mark.parametrize(
    ("auth", "planted"),
    [
        ("{bearer_token: s3cr3t-1}", "s3cr3t-1"),
        ("{basic: {username: u, password: s3cr3t-2}}", "s3cr3t-2"),
        ("{header: {name: X-Key, value: s3cr3t-3}}", "s3cr3t-3"),
    ],
)
def test_secrets_do_not_show(tmp_path: Path, auth: str, planted: str) -> None:
    """Neither the repr of the settings nor an error beside a secret contains it."""
    text = GOOD + f"      auth: {auth}\n"
    config = load_config(written(tmp_path, text)).config
    assert planted not in repr(config)
    assert planted not in str(config.model_dump())
    assert planted not in error(tmp_path, text.replace("}\n", ", nonsense: 1}\n"))
    assert planted not in error(tmp_path, text + "      auth: again\n")

"""`aggregator config`: check a configuration, or print its JSON Schema."""

import json
from typing import Annotated

import typer

from aggregator.cli.options import server_packages
from aggregator.cli.serve import DEFAULT_FILE, ConfigFile

app = typer.Typer(help="Check a configuration, or print its JSON Schema.", no_args_is_help=True)


@app.command("check")
def check(config: ConfigFile = DEFAULT_FILE) -> int:
    """Read the configuration, its profile and its rules; say what is wrong, or what is there."""
    with server_packages():
        from aggregator.config.load import load_config
        from aggregator.profile.lint import lint
        from aggregator.profile.load import load_profile
        from aggregator.profile.regions import region_warning
        from aggregator.rules.groups import load_groups
    loaded = load_config(config)
    settings = loaded.config
    profile = load_profile(settings.collect.profile, base=config.parent)
    problems = lint(profile)
    groups = load_groups(settings.rules.paths(config.parent), settings.rules)
    for problem in problems:
        print(f"problem: {problem}")
    for cluster in settings.clusters:
        provided = cluster.labels.get("provider_region", "")
        warning = region_warning(cluster.name, cluster.region, provided)
        if warning is not None:  # the operator's word counts
            print(f"warning: {warning}")
    regions = {cluster.region for cluster in settings.clusters}
    rules = sum(len(group.rules) for group in groups)
    print(
        f"{config}: {len(settings.clusters)} clusters in {len(regions)} regions, "
        f"{len(profile.metrics)} fleet metrics, {rules} rules"
    )
    return 1 if problems else 0


@app.command("schema")
def schema(
    profile: Annotated[bool, typer.Option("--profile", help="That of a profile's file.")] = False,
) -> int:
    """Print the JSON Schema of the configuration, for editors."""
    with server_packages():
        from aggregator.config.schema import json_schema
        from aggregator.profile.format import ProfileFile
    document = ProfileFile.model_json_schema() if profile else json_schema()
    print(json.dumps(document, indent=2))
    return 0

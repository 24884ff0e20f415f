"""``fabric validate``: check a configuration file, and say every problem with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fabric.cli.exits import Exit

if TYPE_CHECKING:
    from fabric.config.schema import Config


@click.command(short_help="Check a configuration file.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def validate(file: Path | None, as_json: bool) -> None:
    """Check a configuration FILE; by default the one that the other verbs use.

    Prints every problem at once, as FILE:LINE:COLUMN: what is wrong; what to do. The exit code is 0 when the file is
    good and 1 when it is not.
    """
    from fabric.config.problems import Problems
    from fabric.config.reload import read

    path = file if file is not None else _default_file()
    loaded = read(path)
    if isinstance(loaded, Problems):
        if as_json:
            found = [problem.to_dict() for problem in loaded.items]
            click.echo(json.dumps({"file": str(path), "ok": False, "problems": found}, indent=2))
        else:
            click.echo(str(loaded))
            click.echo(f"{path}: {_count(len(loaded.items), 'problem')}", err=True)
        raise click.exceptions.Exit(Exit.NO)
    warnings = _warnings(loaded)
    if as_json:
        said = {"file": str(path), "ok": True, "problems": [], "warnings": warnings, "summary": _facts(loaded)}
        click.echo(json.dumps(said, indent=2))
    else:
        click.echo(f"{path} is good.")
        for line in _summary(loaded):
            click.echo(f"  {line}")
        for warning in warnings:
            click.echo(f"  warning: {warning}")


def _warnings(config: Config) -> list[str]:
    """What does not make the file wrong, but should be looked at."""
    from fabric.cli.price_age import stale_prices

    old = [stale for _, stale in stale_prices(config, Path(config.fabric.state)) if stale]
    return [f"{stale}; docs/reference/prices.md says how to get newer ones" for stale in old]


def _default_file() -> Path:
    from fabric.cli.main import current

    return current().config_path


def _facts(config: Config) -> dict[str, object]:
    from fabric.config.resolve import HEAD, node_types

    types = [node_type for name, node_type in node_types(config).items() if name != HEAD]
    return {
        "sites": {name: site.kind for name, site in config.sites.items()},
        "home_nodes": sum(node_type.maximum for node_type in types if not node_type.launchable),
        "home_gpus": sum(
            node_type.maximum * node_type.resources.gpus for node_type in types if not node_type.launchable
        ),
        "burst_nodes_at_most": sum(node_type.maximum for node_type in types if node_type.launchable),
        "burst_gpus_at_most": sum(
            node_type.maximum * node_type.resources.gpus for node_type in types if node_type.launchable
        ),
        "baseline": [block.model_dump(mode="json", by_alias=True) for block in config.burst.baseline],
        "budgets": [block.model_dump(mode="json", by_alias=True) for block in config.budgets],
        "default_data_class": config.defaults.data_class,
    }


def _summary(config: Config) -> list[str]:
    from fabric.config.units import format_dollars, format_seconds

    facts = _facts(config)
    sites = ", ".join(f"{name} ({site.kind})" for name, site in config.sites.items())
    opens = " or ".join(
        " and ".join(f"{depth:g} {unit}" for depth, unit in ((block.gpus, "GPUs"), (block.cpus, "CPUs")) if depth)
        + f" for {format_seconds(block.for_)}"
        for block in config.burst.baseline
    )
    limits = ", ".join(f"{format_dollars(block.limit)} per {block.per} for {block.scope}" for block in config.budgets)
    return [
        f"sites:    {sites}",
        f"home:     {_count(facts['home_nodes'], 'node')} with {_count(facts['home_gpus'], 'GPU')}",
        f"burst:    at most {_count(facts['burst_nodes_at_most'], 'node')} with "
        f"{_count(facts['burst_gpus_at_most'], 'GPU')}; opens when the queue has {opens}",
        f"budgets:  {limits or 'none: only the number of nodes limits what is spent'}",
        f"untagged: work without a data class is {config.defaults.data_class}",
    ]


def _count(number: object, word: str) -> str:
    return f"{number:g} {word}{'' if number == 1 else 's'}" if isinstance(number, (int, float)) else f"{number} {word}s"

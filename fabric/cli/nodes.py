"""``fabric nodes``: list nodes, and make the script by which a machine of your own joins."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from rich.table import Table

    from fabric.cli.programs import LocalNode
    from fabric.config.schema import Config

_STYLE = {"running": "green", "dead": "red", "ending": "yellow", "draining": "yellow"}


@click.group(invoke_without_command=True, short_help="List nodes; make the script that joins a machine of your own.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def nodes(ctx: click.Context, as_json: bool) -> None:
    """List every node that exists or has been asked for."""
    if ctx.invoked_subcommand is not None:
        return
    context = current()
    status = context.controller_status()
    if status is None:
        raise CliError(
            Exit.UNAVAILABLE,
            f"the controller does not answer on {context.config_in_force.listen.controller}",
            "Start the fabric with: fabric up. fabric status shows what the journal knows.",
        )
    if as_json:
        click.echo(json.dumps(status["nodes"], indent=2))
        return
    from rich.console import Console

    Console(highlight=False).print(nodes_table(status["nodes"], time.time()))


@nodes.command("join-script")
@click.argument("site")
@click.argument("node")
@click.option("--json", "as_json", is_flag=True, help="Print the script and what it is for as JSON.")
def join_script(site: str, node: str, as_json: bool) -> None:
    """Print the script that makes NODE, a machine of your own in on-prem SITE, a node of the cluster.

    Run it there as root or as the user that runs jobs. The ticket in it works once and for an hour; every new
    script for the same machine makes the earlier one useless.
    """
    from autoscaler.boot.script import render
    from fabric.cli.join_script import spec_for

    context = current()
    machine = _machine(context.config, site, node)
    with context.journal(create=True) as journal:
        spec = spec_for(context.config, journal, machine, clock=time.time)
    script = render(spec)
    if as_json:
        told: dict[str, Any] = {"node": spec.token, "node_type": spec.node_type, "gateway": spec.gateway}
        click.echo(json.dumps({**told, "script": script}))
    else:
        click.echo(script, nl=False)


def nodes_table(nodes: Sequence[Mapping[str, Any]], now: float) -> Table:
    """One row a node."""
    from rich.table import Table
    from rich.text import Text

    from fabric.model.money import format_usd

    table = Table(title="Nodes", title_justify="left")
    for column in ("node", "type", "state", "GPUs", "price", "for", "Ray node"):
        table.add_column(column, overflow="fold")
    for node in sorted(nodes, key=lambda node: (not node["is_head"], node["site"], node["node_type"], node["id"])):
        used = node["gpus"] - node["gpus_free"]
        owned = node["market"] == "owned"
        idle = f", idle {node['idle_s']:.0f} s" if node["phase"] == "running" and node["idle_s"] >= 1 else ""
        table.add_row(
            node["instance"] or node["id"],
            node["node_type"],
            Text(node["phase"] + idle, style=_STYLE.get(node["phase"], "cyan")),
            f"{used:g}/{node['gpus']:g}",
            "yours" if owned else f"{format_usd(node['per_hour_micro_usd'])}/h {node['market']}",
            _for(now - (node["joined_at"] or node["launched_at"] or node["since"] or now)),
            node["ray_node_id"][:12],
        )
    return table


def _machine(config: Config, site: str, node: str) -> LocalNode:
    from fabric.cli.programs import LocalNode
    from fabric.config.schema import OnPremSite

    block = config.sites.get(site)
    if not isinstance(block, OnPremSite):
        names = ", ".join(name for name, block in config.sites.items() if isinstance(block, OnPremSite))
        raise CliError(Exit.NO, f"there is no on-prem site {site}", f"On-prem sites: {names or 'none'}.")
    for key, node_type in block.node_types.items():
        if node in node_type.nodes:
            return LocalNode(site, key, node)
    known = ", ".join(name for node_type in block.node_types.values() for name in node_type.nodes)
    raise CliError(
        Exit.NO,
        f"site {site} has no machine {node}",
        f"Machines there: {known}. Add it to a node type of sites.{site} first.",
    )


def _for(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

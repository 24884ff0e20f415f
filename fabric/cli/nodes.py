"""``fabric nodes``: list nodes, and make the script by which a machine of your own joins."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.cli.programs import LocalNode
    from fabric.config.schema import Config
    from fabric.money.ledger import Line


@click.group(invoke_without_command=True, short_help="List nodes; make the script that joins a machine of your own.")
@click.option("--all", "with_ended", is_flag=True, help="List launches that ended, too: when, for how much, for what.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def nodes(ctx: click.Context, with_ended: bool, as_json: bool) -> None:
    """List every node that exists or has been asked for.

    When the controller does not answer, it lists what the journal knows. The exit code is 3 then.

    \b
    The keys of --json; times are Unix seconds, money is micro-USD:
      at           when this was so
      controller   address, answers
      journal      seq and at of the newest entry
      nodes        the same as in fabric status --json
      ended        only with --all, in the order in which they were launched: token, instance, site, node_type, offer,
                   market, per_hour_micro_usd, launched_at, ended_at, cost_micro_usd, cause (what the money was for:
                   work, or what made it waste), estimated (the end is when it was noticed), priced (the price is in
                   the journal)
    """  # noqa: D301 - \b is click's mark for "do not wrap"
    if ctx.invoked_subcommand is not None:
        return
    from fabric.cli.seen import looking

    with looking(current()) as look:
        seen = look()
    listed = {key: seen.account[key] for key in ("at", "controller", "journal", "nodes")}
    if with_ended:
        lines = seen.statement.lines if seen.statement else ()
        listed["ended"] = [_ended(line, line.ended_at_ms) for line in lines if line.ended_at_ms is not None]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        _print(listed)
    if not seen.answers:
        raise click.exceptions.Exit(Exit.UNAVAILABLE)


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


def _ended(line: Line, ended_at_ms: int) -> dict[str, Any]:
    return {
        "token": line.token,
        "instance": line.instance,
        "site": line.site,
        "node_type": line.node_type,
        "offer": line.offer,
        "market": line.market,
        "per_hour_micro_usd": line.tariff.per_hour,
        "launched_at": line.launched_at_ms / 1000,
        "ended_at": ended_at_ms / 1000,
        "cost_micro_usd": line.accrued,
        "cause": line.cause.value,
        "estimated": line.estimated,
        "priced": line.priced,
    }


def _print(listed: dict[str, Any]) -> None:
    from fabric.cli.nodes_view import ended_table, nodes_table
    from fabric.cli.screen import console, silence

    shown_on = console()
    if not listed["controller"]["answers"]:
        shown_on.print(silence(listed, listed["at"]))
        shown_on.print()
    shown_on.print(nodes_table(listed["nodes"], listed["at"]))
    if "ended" in listed:
        shown_on.print()
        shown_on.print("Ended", style="bold")
        shown_on.print(ended_table(listed["ended"]))


def _machine(config: Config, site: str, node: str) -> LocalNode:
    from fabric.cli.programs import LocalNode
    from fabric.config.sites import OnPremSite

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

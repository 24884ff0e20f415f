"""``fabric status``: what the controller says of itself; while it does not answer, what the journal knows."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.cli.context import Context

_EVERY_S = 1.0


@click.command(short_help="Show sites, nodes, the queue against the baseline, and money.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; with --watch one line each time.")
def status(watch: bool, as_json: bool) -> None:
    """Show sites, nodes, the queue against the baseline, and money.

    The exit code is 0 when the controller answers, and 3 when it does not: then the journal is shown instead.
    """
    context = current()
    told = gather(context)
    if watch:
        _watch(context, as_json)
        return
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        from rich.console import Console

        from fabric.cli.status_view import render

        Console(highlight=False).print(render(told, time.time()))
    if told["controller"] is None:
        raise click.exceptions.Exit(Exit.UNAVAILABLE)


def gather(context: Context) -> dict[str, Any]:
    """The controller's account, the ledger's, and supervisord's. Money is micro-USD, times are Unix seconds."""
    from fabric.cli.run_dir import RunDir
    from fabric.cli.supervisor import Supervisor

    processes = [
        {"name": state.name, "state": state.state, "pid": state.pid, "up_s": state.up_s, "detail": state.detail}
        for state in Supervisor(RunDir.of(context.config_path)).states()
    ]
    return {
        "controller": context.controller_status(),
        "controller_address": context.config_in_force.listen.controller,
        "money": _money(context),
        "processes": processes,
    }


def _money(context: Context) -> dict[str, Any] | None:
    """The ledger, folded from the journal; None when there is no journal yet."""
    from fabric.money.ledger import fold

    if not context.journal_path.exists():
        return None
    with context.journal() as journal:
        statement = fold(journal.read()).statement(time.time_ns() // 1_000_000)
    return {
        "per_hour_micro_usd": statement.per_hour,
        "total_micro_usd": statement.total,
        "work_micro_usd": statement.work,
        "idle_micro_usd": statement.idle,
        "waste_micro_usd": statement.waste,
        "live": sum(line.ended_at_ms is None for line in statement.lines),
    }


def _watch(context: Context, as_json: bool) -> None:
    if as_json:
        while True:
            click.echo(json.dumps(gather(context)))
            time.sleep(_EVERY_S)
    from rich.console import Console
    from rich.live import Live

    from fabric.cli.status_view import render

    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(gather(context), time.time()), refresh=True)
            time.sleep(_EVERY_S)

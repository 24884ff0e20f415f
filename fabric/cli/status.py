"""``fabric status``: what the controller says of everything, or, when it is down, what the journal knows."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.cli.context import Context
    from fabric.cli.seen import Seen
    from fabric.money.ledger import Statement


@click.command(short_help="Show sites, nodes, the queue against the baseline, and money.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; with --watch, one object a line.")
@click.option(
    "--watch",
    "-w",
    "every_s",
    is_flag=False,
    flag_value=2.0,
    type=click.FloatRange(min=0.2),
    metavar="[SECONDS]",
    help="Show it again and again until Ctrl-C, every 2 seconds or every SECONDS.",
)
def status(as_json: bool, every_s: float | None) -> None:
    """Show sites, nodes, the queue against the baseline, and money.

    When the controller does not answer, it shows what the journal knows: launches that may have a machine, machines
    of your own as they were last seen, and money. The exit code is 3 then.

    \b
    The keys of --json; times are Unix seconds, money is micro-USD, null is "only the controller knows":
      fabric, at         the fabric's name; when this was so
      controller         address, answers
      ok, last_tick, tick_error, started_at, pid
                         how the controller is doing
      ray                address; error: why the head cannot be reached
      config             path, digest; problems: why the edited file is not taken
      sites              name, kind, error, listed_at, offers, stopped (why nothing is bought there)
      node_types         name, site, launchable, gpus, cpus, minimum, maximum,
                         plan (what should exist), requested, observed, ending
      nodes              id, instance, token, node_type, site, phase, is_head, ray_node_id, gpus, gpus_free, cpus,
                         cpus_free, idle_s, since, launched_at, joined_at, offer, market, per_hour_micro_usd,
                         cost_micro_usd
      gpus               home and burst: total, used
      queue              gpus, cpus, requests that wait and may leave home
      baseline           open, open_since, open_threshold; thresholds: gpus, cpus, for_s, above_since
      spend_per_hour_micro_usd
                         price of all burst nodes after the last decision
      money              per_hour, spent, work, idle, waste, each _micro_usd; by_site: per_hour and spent;
                         null when there is no journal yet
      budgets            scope, per, and limit, accrued, committed, left, each _micro_usd; actions
      refused_offers     offers that are left alone for a while
      last_decision      seq (its place in the journal), at, sentences
      journal            seq and at of the newest entry
      processes          name, state, pid, up_s, detail, as the supervisor sees them; empty without one
    """  # noqa: D301 - \b is click's mark for "do not wrap"
    from fabric.cli.seen import looking

    context = current()
    with looking(context) as look_again:

        def look() -> dict[str, Any]:
            return _everything(context, look_again())

        if every_s is None:
            seen = look()
            _print_json(seen, indent=2) if as_json else _print(seen)
            if not seen["controller"]["answers"]:
                raise click.exceptions.Exit(Exit.UNAVAILABLE)
        elif as_json:
            while True:
                _print_json(look(), indent=None)
                time.sleep(every_s)
        else:
            _watch(look, every_s)


def _everything(context: Context, seen: Seen) -> dict[str, Any]:
    money = _money(seen.statement) if seen.statement else None
    return {**seen.account, "money": money, "processes": _processes(context)}


def _money(statement: Statement) -> dict[str, Any]:
    rates: dict[str, int] = defaultdict(int)
    for line in statement.lines:
        rates[line.site] += line.tariff.per_hour if line.ended_at_ms is None else 0
    return {
        "per_hour_micro_usd": statement.per_hour,
        "spent_micro_usd": statement.total,
        "work_micro_usd": statement.work,
        "idle_micro_usd": statement.idle,
        "waste_micro_usd": statement.waste,
        "by_site": {
            site: {"per_hour_micro_usd": rates[site], "spent_micro_usd": spent}
            for site, spent in statement.by_site().items()
        },
    }


def _processes(context: Context) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from fabric.cli.run_dir import RunDir
    from fabric.cli.supervisor import Supervisor

    return [asdict(state) for state in Supervisor(RunDir.of(context.config_path)).states()]


def _print_json(seen: dict[str, Any], indent: int | None) -> None:
    click.echo(json.dumps(seen, indent=indent))


def _print(seen: dict[str, Any]) -> None:
    from fabric.cli.screen import console
    from fabric.cli.status_view import status_view

    console().print(status_view(seen))


def _watch(look: Callable[[], dict[str, Any]], every_s: float) -> None:
    from fabric.cli.screen import console
    from fabric.cli.status_view import status_view

    shown_on = console()
    if not shown_on.is_terminal:
        while True:
            shown_on.print(status_view(look()))
            shown_on.print()
            time.sleep(every_s)
    from rich.live import Live

    with Live(status_view(look()), console=shown_on, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(status_view(look()), refresh=True)

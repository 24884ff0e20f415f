"""``fabric status``: what the controller says of everything, or, when it is down, what the journal knows."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from rich.console import Console

    from fabric.cli.context import Context
    from fabric.cli.status_journal import JournalAccount
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
      ok, last_tick, tick_error, started_at, pid, stopping
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
    with _looking(current()) as look:
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


@contextmanager
def _looking(context: Context) -> Iterator[Callable[[], dict[str, Any]]]:
    """A function that looks at everything; each call reads only what is new in the journal."""
    from fabric.cli.status_journal import JournalAccount

    if not context.journal_path.exists():
        yield lambda: _look(context, None)
        return
    with context.journal() as journal:
        account = JournalAccount(journal, context.config_in_force, context.config_path)
        yield lambda: _look(context, account)


def _look(context: Context, account: JournalAccount | None) -> dict[str, Any]:
    told = context.controller_status()
    address = context.config_in_force.listen.controller
    if told is not None and not {"node_types", "last_decision"} <= told.keys():
        raise CliError(
            Exit.CONFLICT,
            f"what answers on {address} is not the controller of a fabric",
            "Find out what listens there, or give listen.controller another port.",
        )
    now, answers = time.time(), told is not None
    if account is None:
        if told is None:
            raise CliError(
                Exit.UNAVAILABLE,
                f"the controller does not answer on {address}, and there is no journal at {context.journal_path}: "
                "this fabric has never run",
                "Start it with: fabric up",
            )
        statement, position = None, {"seq": 0, "at": None}
    else:
        account.refresh()
        statement, position = account.statement(now), account.position()
        told = account.status(now) if told is None else told
    costs = {line.token: line.accrued for line in statement.lines} if statement else {}
    return {
        **told,
        "nodes": [{**node, "cost_micro_usd": costs.get(node["token"], 0)} for node in told["nodes"]],
        "controller": {"address": address, "answers": answers},
        "money": _money(statement) if statement else None,
        "journal": position,
        "processes": _processes(context),
    }


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
    from fabric.cli.status_view import status_view

    _console().print(status_view(seen))


def _watch(look: Callable[[], dict[str, Any]], every_s: float) -> None:
    from fabric.cli.status_view import status_view

    console = _console()
    if not console.is_terminal:
        while True:
            console.print(status_view(look()))
            console.print()
            time.sleep(every_s)
    from rich.live import Live

    with Live(status_view(look()), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(status_view(look()), refresh=True)


def _console() -> Console:
    """Standard output; in a pipe as wide as the tables need, so that no line is broken there."""
    import os
    import sys

    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=160 if piped else None, highlight=False, markup=False, emoji=False)

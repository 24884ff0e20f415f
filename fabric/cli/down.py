"""``fabric down``."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current


@click.command(short_help="Give every instance back, then stop everything.")
@click.option("--force", is_flag=True, help="Stop every process also when an instance cannot be given back.")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=60, show_default=True, help="Seconds to wait for the clouds."
)
@click.option("--json", "as_json", is_flag=True, help="Print the final ledger as JSON.")
def down(force: bool, timeout: float, as_json: bool) -> None:
    """Give every instance back, then stop everything.

    Nothing more is bought, every instance is ended and seen to have ended, and then every process is stopped. It
    may be repeated, and works after any process was killed.
    """
    from rich.console import Console

    from fabric.cli.money import ledger_json, ledger_table
    from fabric.cli.steps import Steps
    from fabric.cli.take_down import is_down, take_down
    from fabric.money.ledger import fold

    context, console = current(), Console(stderr=as_json)
    if is_down(context):
        click.echo(json.dumps({"was_up": False}) if as_json else "Nothing is up, and nothing is rented.")
        return
    steps = Steps(console, quiet=as_json)
    with steps.shown():
        problem = take_down(context, steps, force=force, give_back_s=timeout)
    told: dict[str, Any] = {"was_up": True, "problem": problem}
    if context.journal_path.exists():
        with context.journal() as journal:
            statement = fold(journal.read()).statement(round(time.time() * 1000))
        told["ledger"] = ledger_json(statement)
        if not as_json:
            console.print(ledger_table(statement))
    if as_json:
        click.echo(json.dumps(told))
    if problem:
        raise CliError(Exit.FAILED, problem)

"""``fabric doctor``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.cli.checks import Check, Finding
    from fabric.cli.context import Context

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@click.group(
    short_help="Look for what would keep the fabric, or one of its clouds, from running.", invoke_without_command=True
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Look for what would keep the fabric from running here; `fabric doctor cloud SITE` asks one cloud.

    Versions, the import name, the configuration, the fabric's processes and ports, the state directory, file modes of
    secrets, the cluster token, the journal's newest entries, clocks, disk space, SQLite, the limit of open files,
    network namespaces. The exit code is 1 if something fails; a warning does not count.
    """
    if ctx.invoked_subcommand is not None:
        return
    from fabric.cli.checks import CHECKS
    from fabric.cli.running_checks import RUNNING_CHECKS
    from fabric.cli.state_checks import STATE_CHECKS

    context = current()
    found = [finding for check in (*CHECKS, *RUNNING_CHECKS, *STATE_CHECKS) for finding in _look(check, context)]
    _tell(found, as_json)


@doctor.command()
@click.argument("site")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def cloud(site: str, as_json: bool) -> None:
    """Ask the cloud of SITE what would keep it from selling machines.

    Credentials, each permission by name, the image, the network, machine types and quotas, as far as the cloud tells
    them without making anything. Nothing is bought. The exit code is 1 if something fails.
    """
    from autoscaler.providers.registry import UnknownSiteKindError, provider_for
    from fabric.cli.checks import FAIL, OK, Finding
    from fabric.config.sites import OnPremSite

    config = current().config
    block = config.sites.get(site)
    selling = [name for name, one in config.sites.items() if not isinstance(one, OnPremSite)]
    if block is None or isinstance(block, OnPremSite):
        what = f"there is no site {site}" if block is None else f"{site} is a room of your own: nothing is bought there"
        raise CliError(Exit.USAGE, what, f"Sites that sell machines: {', '.join(selling) or 'none'}.")
    try:
        checks = provider_for(site, block, config.fabric.name).check()
    except UnknownSiteKindError as error:
        raise CliError(Exit.FAILED, str(error), "Install the provider's package.") from error
    _tell([Finding(one.name, OK if one.ok else FAIL, one.detail, one.remedy) for one in checks], as_json)


def _tell(found: list[Finding], as_json: bool) -> None:
    """Print findings; the exit code tells whether one of them is a failure."""
    from fabric.cli.checks import FAIL

    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            mark, colour = _MARKS[finding.state]
            click.echo(f"{click.style(mark, fg=colour)} {finding.name}: {finding.detail}")
            if finding.remedy:
                click.echo(f"    {finding.remedy}")
    if any(finding.state == FAIL for finding in found):
        raise click.exceptions.Exit(Exit.NO)


def _look(check: Check, context: Context) -> Iterator[Finding]:
    """A check's findings; what keeps it from looking is itself a finding."""
    from fabric.cli.checks import FAIL, Finding

    try:
        yield from check(context)
    except OSError as error:
        name = check.__name__.replace("_", " ")
        yield Finding(name, FAIL, f"{error.filename or name}: {error.strerror or error}", "Look at its owner and mode.")
    except CliError as error:
        name = check.__name__.replace("_", " ")
        if error.exit_code == Exit.CONFIG and name != "configuration":
            return  # said once, by the check of the configuration itself
        yield Finding(name, FAIL, error.message, error.remedy)

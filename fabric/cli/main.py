"""``fabric``: the table of verbs, and what happens when one of them fails.

Only click is imported here, so that ``fabric --help`` answers at once; a verb's module is imported when it is used.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from fabric.cli.context import Context

# verb: (where it is, its line in the list of verbs)
VERBS: dict[str, tuple[str, str]] = {
    "up": ("fabric.cli.up:up", "Start everything on this machine."),
    "down": ("fabric.cli.down:down", "Give every instance back, then stop everything."),
    "status": ("fabric.cli.status:status", "Show sites, nodes, the queue against the baseline, and money."),
    "why": ("fabric.cli.why:why", "Explain a decision, a node, a launch or a job from the journal."),
    "jobs": ("fabric.cli.jobs:jobs", "List the queue and earlier jobs, each with its reason."),
    "nodes": ("fabric.cli.nodes:nodes", "List nodes; make the script that joins a machine of your own."),
    "evidence": (
        "fabric.cli.evidence:evidence",
        "Write where a job's data was into one signed file; verify one; report a period.",
    ),
    "token": ("fabric.cli.token:token", "Make, list and revoke users' tokens."),
    "validate": ("fabric.cli.validate:validate", "Check a configuration file."),
    "prices": ("fabric.cli.prices:prices", "List prices of cloud shapes; refresh or import them."),
    "journal": ("fabric.cli.journal:journal", "Verify, show and export the journal."),
    "doctor": ("fabric.cli.doctor:doctor", "Look for what would keep the fabric, or one of its clouds, from running."),
    "demo": ("fabric.cli.demo:demo", "Watch a burst begin and end on this machine, with a bill."),
}


def _remember_config(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(dict)["config"] = value


def _config_option() -> click.Option:
    return click.Option(
        ["--config", "-c"],
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="FABRIC_CONFIG",
        show_envvar=True,
        expose_value=False,
        callback=_remember_config,
        metavar="PATH",
        help="The configuration; by default ./fabric.yaml, else ./configs/fabric.yaml.",
    )


class Verbs(click.Group):
    """A group whose commands are imported when they are used. ``--config`` may stand before or after the verb."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the table."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb; None if there is none of that name."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module, attribute = VERBS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        _accept_config(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a misspelt verb."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" Verbs: {', '.join(VERBS)}."
            raise click.UsageError(f"There is no verb {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, from the table, without importing any of them."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


def _accept_config(command: click.Command) -> None:
    if not any(parameter.name == "config" for parameter in command.params):
        command.params.append(_config_option())
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _accept_config(inner)


@click.group(cls=Verbs, params=[_config_option()], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="elastic-ai-fabric", prog_name="fabric")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """One Ray cluster over your own GPUs and rented ones, bought only when the queue says so.

    \b
    fabric up       start everything on this machine
    fabric status   see it
    fabric why      ask it
    fabric down     give everything back and stop
    """  # noqa: D301 - \b is click's mark for "do not wrap"
    ctx.ensure_object(dict)


def current() -> Context:
    """The context of the running verb: its configuration, state directory, journal and controller."""
    from fabric.cli.context import Context

    stored: dict[str, Any] = click.get_current_context().ensure_object(dict)
    context = stored.get("context")
    if not isinstance(context, Context):
        context = stored["context"] = Context(stored.get("config"))
    return context


def main() -> None:
    """Run the command line and exit. Errors are sentences; the traceback of a mistake of ours goes to a file."""
    try:
        code = cli.main(prog_name="fabric", standalone_mode=False)
    except CliError as error:
        error.show()
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = Exit.USAGE
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("fabric: interrupted", err=True)
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    except Exception as error:
        code = _report_bug(error)
    sys.exit(code if isinstance(code, int) else Exit.OK)


def _report_bug(error: Exception) -> Exit:
    if os.environ.get("FABRIC_DEBUG"):
        raise error
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="fabric-bug-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    click.echo(
        f"fabric: this is a mistake in the fabric: {type(error).__name__}: {error}\n"
        f"The traceback is in {file.name}; please report it. FABRIC_DEBUG=1 prints it instead.",
        err=True,
    )
    return Exit.BUG

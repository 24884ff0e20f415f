"""``fabric up``."""

from __future__ import annotations

import json
import signal
import subprocess
from types import FrameType

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current


@click.command(short_help="Start everything on this machine.")
@click.option("--foreground", is_flag=True, help="Stay, and take everything down when ended: for systemd.")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=120, show_default=True, help="Seconds to wait until all is well."
)
@click.option("--json", "as_json", is_flag=True, help="Print where things are as JSON.")
def up(foreground: bool, timeout: float, as_json: bool) -> None:
    """Start everything on this machine.

    Starts the Ray head, your local nodes, the gateway, the controller, the reaper and the sandbox cloud under
    supervisord, which brings a process that dies back. Waits until all of them are well; if one is not, takes
    everything down again and says which.
    """
    from rich.console import Console

    from fabric.cli.bring_up import await_healthy, launch, prepare, ray_environment
    from fabric.cli.steps import Steps
    from fabric.cli.take_down import take_down

    context, console = current(), Console(stderr=as_json)
    prepared = prepare(context)
    steps = Steps(console, quiet=as_json)
    try:
        child = launch(prepared, foreground=foreground)
        with steps.shown():
            await_healthy(prepared, steps, timeout)
    except BaseException as error:
        if isinstance(error, Exception):
            console.print("That did not work; taking everything down again.", highlight=False)
        take_down(context, Steps(console, quiet=True), force=True)
        raise
    exports = ray_environment(prepared.config)
    if as_json:
        listen = prepared.config.listen
        told = {
            "gateway": listen.gateway,
            "controller": listen.controller,
            "reaper": listen.reaper,
            "dashboard": prepared.config.ray.dashboard,
            "logs": str(prepared.log_dir),
            "environment": exports,
        }
        click.echo(json.dumps(told))
    else:
        click.echo("\nSubmit jobs with Ray's own command line, after:\n")
        for name, value in exports.items():
            click.echo(f"  export {name}={value}")
        click.echo("  ray job submit --working-dir jobs -- python sweep.py\n")
        click.echo(f"Logs: {prepared.log_dir}\nSee it: fabric status    Stop it: fabric down")
    if child is not None:
        _stay(child)
        left = take_down(context, Steps(console, quiet=as_json), force=False)
        if left:
            raise CliError(Exit.FAILED, left)


def _stay(child: subprocess.Popen[bytes]) -> None:
    """Wait until supervisord ends or this process is told to."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        child.wait()
    except KeyboardInterrupt:
        return

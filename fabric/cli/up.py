"""``fabric up``."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.cli.bring_up import Prepared

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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

    from fabric.cli.bring_up import await_healthy, launch, prepare
    from fabric.cli.steps import Steps
    from fabric.cli.take_down import take_down

    context, console = current(), Console(stderr=as_json)
    prepared = prepare(context)
    steps = Steps(console, quiet=as_json)
    try:
        _leave_on_signals()
        child = launch(prepared, foreground=foreground)
        with steps.shown():
            await_healthy(prepared, steps, timeout)
    except BaseException as error:
        _heed_no_signals()
        if isinstance(error, Exception):
            console.print("That did not work; taking everything down again.", highlight=False)
        left = take_down(context, Steps(console, quiet=True), force=True)
        if left:
            console.print(left, highlight=False, markup=False)
        raise
    if child is None:
        _tell(prepared, as_json)
        return
    with suppress(KeyboardInterrupt):
        _tell(prepared, as_json)
        child.wait()
    _heed_no_signals()
    left = take_down(context, Steps(console, quiet=as_json), force=False)
    if left:
        raise CliError(Exit.FAILED, left)


def _tell(prepared: Prepared, as_json: bool) -> None:
    """Say where things are."""
    from fabric.cli.bring_up import ray_environment

    exports = ray_environment(prepared.config)
    if as_json:
        listen = prepared.config.listen
        told = {
            "gateway": listen.gateway,
            "controller": listen.controller,
            "reaper": listen.reaper,
            "dashboard": f"{exports['RAY_API_SERVER_ADDRESS']}/dashboard/",
            "logs": str(prepared.log_dir),
            "environment": exports,
        }
        click.echo(json.dumps(told))
    else:
        click.echo("\nSubmit jobs with Ray's own command line, after:\n")
        for name, value in exports.items():
            click.echo(f"  export {name}={value}")
        url = exports["RAY_API_SERVER_ADDRESS"]
        verify = ""
        if url.startswith("https:"):
            # The gateway's certificate is its own, as nodes pin it; Ray's command line has to be shown it.
            verify = f"--verify {Path(prepared.config.fabric.state) / 'secrets' / 'gateway.crt'} "
        click.echo(f"  ray job submit {verify}--working-dir jobs -- python sweep.py\n")
        click.echo(f"Ray's dashboard: {url}/dashboard/ (it asks for the token in that file)")
        click.echo(f"Logs: {prepared.log_dir}\nSee it: fabric status    Stop it: fabric down")


def _leave_on_signals() -> None:
    """Be ended by a signal as by Ctrl-C, so that what was started is taken down. What is ignored stays ignored."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)


def _heed_no_signals() -> None:
    """Taking down has begun: a second signal must not leave half of it behind. Not for what is started from now on."""
    for number in _ENDING:
        signal.signal(number, lambda *_: None)

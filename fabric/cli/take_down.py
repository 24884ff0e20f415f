"""Taking a fabric down: buy nothing more, give everything back, stop every process, leave nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.shell.book import Book
from fabric.cli.context import Context, get_json
from fabric.cli.exits import CliError, Exit
from fabric.cli.give_back import Left, give_back
from fabric.cli.programs import CONTROLLER, GATEWAY, HEAD, REAPER, local_nodes, sandbox_sites
from fabric.cli.run_dir import RunDir, end
from fabric.cli.steps import Steps
from fabric.cli.supervisor import Supervisor
from fabric.config.schema import Config
from fabric.journal.base import Draft, Journal
from fabric.model.events import Event

if TYPE_CHECKING:
    from psutil import Process

_GIVE_BACK_S = 60.0
_SHUTDOWN_S = 60.0


def take_down(context: Context, steps: Steps, *, force: bool, give_back_s: float = _GIVE_BACK_S) -> str:
    """Take the fabric of this configuration down; may be repeated, and after anything was killed.

    Args:
        context: which fabric.
        steps: where to show progress.
        force: stop every process even if an instance could not be given back.
        give_back_s: seconds to wait for the clouds.

    Returns:
        What is wrong at the end, as a sentence; ``""`` when nothing is left.

    Raises:
        CliError: instances could not be given back and ``force`` is False; then everything but the controller
            goes on running, so that the reaper can.
    """
    config, run = context.config_in_force, RunDir.of(context.config_path)
    supervisor = Supervisor(run)
    was_up = supervisor.is_up()
    problem = ""
    steps.doing("controller stopped")
    supervisor.stop([CONTROLLER])
    if not was_up:
        end(run.processes(CONTROLLER), grace_s=5)
    steps.done("controller stopped", "nothing more is bought")
    if context.journal_path.exists():
        with context.journal() as journal, _clouds(config, context.config_path, run):
            problem = _give_everything_back(config, journal, steps, give_back_s)
            if problem and not force and was_up:
                raise CliError(
                    Exit.FAILED,
                    f"{problem}\nThe controller is stopped; the reaper and the clouds go on running.",
                    "Try again, or stop everything with --force: what is left ends itself when its lease lapses.",
                )
            if was_up:
                journal.append([Draft(Event.FABRIC_STOPPING, {"process": "cli"})])
    steps.doing("processes stopped")
    _stop_processes(config, supervisor)
    left = end(run.processes(), grace_s=8)
    _end_machines_of_dead_servers(config, context.config_path)
    left = _settled(run) or left
    if left:
        named = ", ".join(str(process.pid) for process in left)
        return f"{len(left)} processes do not end: {named}" + (f"\n{problem}" if problem else "")
    _keep_ray_logs(run, Path(config.fabric.state) / "log" / "ray")
    run.remove()
    steps.done("processes stopped", "none is left")
    return problem


def is_down(context: Context) -> bool:
    """Whether there is nothing to take down: no process, no directory, and no instance by the journal."""
    run = RunDir.of(context.config_path)
    if Supervisor(run).is_up() or run.root.exists():
        return False
    if not context.journal_path.exists():
        return True
    with context.journal() as journal:
        book = Book(journal)
        book.refresh()
        return not book.live()


@contextmanager
def _clouds(config: Config, config_path: Path, run: RunDir) -> Iterator[None]:
    """Sandbox clouds that answer: one whose server was killed is served again for as long as this takes."""
    servers = []
    for name, site in sandbox_sites(config).items():
        known = (Path(config.fabric.state) / "sandbox" / name).exists()
        if known and not Supervisor(run).is_up() and get_json(f"http://{site.endpoint}/healthz") is None:
            command = [sys.executable, "-m", "autoscaler.sandbox.main", "--config", str(config_path), "--site", name]
            quiet = subprocess.DEVNULL
            server = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
            servers.append(server)
            _wait_until(lambda: get_json(f"http://{site.endpoint}/healthz"), server)  # noqa: B023 - called at once
    try:
        yield
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(timeout=_SHUTDOWN_S)


def _wait_until(answers: Callable[[], object], server: subprocess.Popen[bytes], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while server.poll() is None and time.monotonic() < deadline and not answers():
        time.sleep(0.1)


def _give_everything_back(config: Config, journal: Journal, steps: Steps, timeout_s: float) -> str:
    name = "instances given back"
    most = 0

    def show(left: Left) -> None:
        nonlocal most
        most = max(most, len(left.tokens))
        steps.doing(name, f"{len(left.tokens)} left" if left.tokens else "")

    steps.doing(name)
    left = give_back(config, journal, timeout_s=timeout_s, progress=show)
    if left.tokens:
        why = "".join(f"; site {site} does not answer: {words}" for site, words in left.unreachable)
        return f"{len(left.tokens)} instances are not known to have ended: {', '.join(left.tokens)}{why}"
    steps.done(name, f"{most} were left" if most else "none was left")
    return ""


def _stop_processes(config: Config, supervisor: Supervisor) -> None:
    nodes = [node.program for node in local_nodes(config)]
    clouds = [f"sandbox-{name}" for name in sandbox_sites(config)]
    supervisor.stop([REAPER, *nodes, *clouds])
    supervisor.stop([GATEWAY, HEAD])
    supervisor.shutdown(_SHUTDOWN_S)


def _end_machines_of_dead_servers(config: Config, config_path: Path) -> None:
    """Machines of the sandbox outlive its server; if that was killed, switch them off in its place."""
    for name in sandbox_sites(config):
        place = Path(config.fabric.state) / "sandbox" / name
        if not place.exists():
            continue
        command = [sys.executable, "-m", "autoscaler.sandbox.main", "--config", str(config_path), "--site", name]
        subprocess.run([*command, "--end-all"], check=False, capture_output=True, timeout=60)


def _keep_ray_logs(run: RunDir, place: Path) -> None:
    """Ray's own logs of the last run outlive its session directory."""
    shutil.rmtree(place, ignore_errors=True)
    for logs in run.root.glob("*/session_2*/logs"):
        shutil.copytree(logs, place / logs.parts[-3], dirs_exist_ok=True, ignore_dangling_symlinks=True)


def _settled(run: RunDir, timeout_s: float = 5.0) -> list[Process]:
    """Whoever is still there after a moment in which the last children of the last process may end."""
    deadline = time.monotonic() + timeout_s
    while (left := run.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left

"""What ``fabric doctor`` looks at of a fabric that may be up: its processes, and who has its ports."""

from __future__ import annotations

from collections.abc import Iterator

from fabric.cli import ports
from fabric.cli.checks import FAIL, OK, WARN, Check, Finding
from fabric.cli.context import Context
from fabric.cli.run_dir import RunDir
from fabric.cli.supervisor import Supervisor

_NAMED = 8


def processes(context: Context) -> Iterator[Finding]:
    """Either nothing of this fabric runs, or supervisord does and every program with it."""
    run = RunDir.of(context.config_path)
    supervisor = Supervisor(run)
    running = run.processes()
    if supervisor.is_up():
        failing = [state for state in supervisor.states() if state.state in ("BACKOFF", "EXITED", "FATAL", "UNKNOWN")]
        for state in failing:
            log = context.state_dir / "log" / f"{state.name}.log"
            yield Finding("processes", FAIL, f"{state.name} is {state.state}: {state.detail}", f"See {log}.")
        if not failing:
            yield Finding("processes", OK, f"supervisord runs, and {len(running)} processes of this fabric")
    elif running:
        named = ", ".join(str(process.pid) for process in running[:_NAMED]) + (", …" if running[_NAMED:] else "")
        yield Finding(
            "processes",
            FAIL,
            f"supervisord has died, and {len(running)} processes of this fabric still run ({named})",
            "End them, and whatever they rent, with: fabric down",
        )
    else:
        yield Finding("processes", OK, "none; fabric up starts them")


def listening(context: Context) -> Iterator[Finding]:
    """Every address can be listened on, or is listened on by this very fabric."""
    run = RunDir.of(context.config_path)
    own = {process.pid for process in run.processes()}
    needed = ports.needed(context.config)
    if own:
        yield from _held(needed, own, Supervisor(run).is_up())
        return
    later = ports.not_made_yet(context.config)
    taken = ports.problems(needed, later)
    for problem in taken:
        yield Finding("ports", FAIL, problem, "Stop what has it, or write another port into the configuration.")
    if not taken:
        free = [port for port in needed if port.host not in later]
        yield Finding("ports", OK, f"{len(free)} are free")
    for host in sorted(later & {port.host for port in needed}):
        there = ", ".join(str(port.number) for port in needed if port.host == host)
        yield Finding("ports", OK, f"fabric up makes the address {host}, on which it will listen ({there})")


def _held(needed: tuple[ports.Port, ...], own: set[int], is_up: bool) -> Iterator[Finding]:
    """Who has the ports of a fabric with processes."""
    listeners = ports.listeners()
    held = 0
    for port in needed:
        has_it = [listener for listener in listeners if listener.has(port)]
        if any(listener.pid in own for listener in has_it):
            held += 1
        elif problem := str(has_it[0]) if has_it else ports.why_not(port.host, port.number):
            what = f"{port}: {problem} has it, which is not of this fabric" if has_it else f"{port}: {problem}"
            yield Finding(
                "ports", FAIL, what, "Stop what has it: the program that needs it is started again and again."
            )
        elif is_up:
            missing = f"{port}: nothing listens there"
            yield Finding("ports", WARN, missing, "It may be starting. See whether all its programs run: fabric status")
    if held:
        yield Finding("ports", OK, f"{held} of {len(needed)} are held by this fabric's own processes")


RUNNING_CHECKS: tuple[Check, ...] = (processes, listening)

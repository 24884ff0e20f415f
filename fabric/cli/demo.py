"""``fabric demo``: a burst from its beginning to its end, on this machine, with a bill that is checked."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from rich.console import Console

    from fabric.cli.context import Context
    from fabric.cli.demo_job import SweepJob
    from fabric.money.ledger import Statement

_LOOK_EVERY_S = 0.3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the demo promises, and whether it was so."""

    promise: str
    kept: bool
    detail: str


@click.command(short_help="Watch a burst begin and end on this machine, with a bill.")
@click.option("--keep", is_flag=True, help="Leave the fabric up at the end.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=30),
    default=420,
    show_default=True,
    help="Seconds until the job must have ended and everything must have been given back.",
)
def demo(keep: bool, timeout: float) -> None:
    """Watch a burst begin and end on this machine, with a bill.

    Starts a Ray head, two nodes of "your own" and a sandbox cloud that sells more; submits a real hyper-parameter
    sweep with Ray's own command line; shows how the queue crosses the baseline, what is bought and why, where the
    trials run, and how everything is given back. Exits with 0 only if the job succeeded, a burst happened, every
    instance that was launched has ended, the ledger equals the cloud's bill, the journal verifies, and no process
    is left.
    """
    from rich.console import Console

    from fabric.cli.context import Context
    from fabric.cli.demo_config import make_place, repository

    console = Console(highlight=False)
    begun = time.monotonic()
    _end_on_hangup()
    folder = repository()
    context = Context(make_place(folder))
    findings: list[Finding] = []
    try:
        findings += _run(context, folder, console, begun, timeout)
    except BaseException:
        _clean_up(context, console)
        raise
    if keep:
        console.print(f"\nIt is still up. See it: fabric status -c {context.config_path}")
    else:
        findings.append(_end(context, console))
    _tell(findings, context, console, time.monotonic() - begun)
    if not all(finding.kept for finding in findings):
        raise click.exceptions.Exit(Exit.FAILED)


def _run(context: Context, folder: Path, console: Console, begun: float, timeout_s: float) -> list[Finding]:
    from fabric.cli.bring_up import await_healthy, launch, prepare
    from fabric.cli.demo_config import JOB_DIR
    from fabric.cli.demo_job import SweepJob
    from fabric.cli.steps import Steps

    console.print("[bold]Starting[/] a Ray cluster with two nodes of your own, and a sandbox cloud")
    prepared = prepare(context)
    launch(prepared)
    steps = Steps(console)
    with steps.shown():
        await_healthy(prepared, steps, timeout_s=min(timeout_s, 150))
    console.print("[bold]Submitting[/] [cyan]ray job submit --working-dir jobs -- python sweep.py[/]")
    job = SweepJob(context.config, folder / JOB_DIR, prepared.log_dir / "job.log")
    try:
        _watch(context, job, console, begun, timeout_s)
        return _result(context, job, console)
    finally:
        job.end()


def _watch(context: Context, job: SweepJob, console: Console, begun: float, timeout_s: float) -> None:
    """Show the burst until the job has ended and nothing that was bought lives any more."""
    from autoscaler.core.lifecycle import Phase, fold_instances
    from fabric.cli.demo_view import DemoView
    from fabric.journal.fold import Tail
    from fabric.money.ledger import Ledger, fold

    view = DemoView(console, begun)
    ledger, records = Ledger(), {}
    with context.journal() as journal, view.shown():
        tail = Tail(journal)
        while True:
            entries = tail.new()
            view.decided(entries)
            ledger, records = fold(entries, ledger), fold_instances(entries, records)
            bought = [record for token, record in records.items() if not token.startswith("onprem/")]
            view.update(
                context.controller_status(timeout_s=2.0),
                job.progress,
                ledger.statement(round(time.time() * 1000)).total,
            )
            over = all(record.phase is Phase.ENDED for record in bought)
            if job.exit_code is not None and (over or job.exit_code != 0):
                view.update(context.controller_status(timeout_s=2.0), job.progress, ledger.statement(_now_ms()).total)
                return
            if time.monotonic() - begun > timeout_s:
                raise CliError(
                    Exit.FAILED,
                    f"after {timeout_s:.0f} s the job has done {job.progress.done} of {job.progress.trials} trials and "
                    f"{sum(record.phase is not Phase.ENDED for record in bought)} instances still live",
                    f"Logs are in {Path(context.config.fabric.state) / 'log'}",
                )
            time.sleep(_LOOK_EVERY_S)


def _result(context: Context, job: SweepJob, console: Console) -> list[Finding]:
    """What came of it, held against what the demo promises."""
    from fabric.admission.records import JobRecord, step
    from fabric.cli.context import get_json
    from fabric.cli.programs import sandbox_sites
    from fabric.money.ledger import fold

    bills: dict[str, dict[str, Any]] = {}
    for name, site in sandbox_sites(context.config).items():
        bills[name] = get_json(f"http://{site.endpoint}/bill") or {"lines": [], "total_micro_usd": -1}
    jobs: dict[str, JobRecord] = {}
    with context.journal() as journal:
        statement, broken, entries = fold(journal.read()).statement(_now_ms()), journal.verify(), journal.last_seq()
        for entry in journal.read():
            step(jobs, entry)
    attempts = sum(len(record.attempts) for record in jobs.values())
    billed = sum(int(bill["total_micro_usd"]) for bill in bills.values())
    launched = len(statement.lines)
    ended = sum(line.ended_at_ms is not None for line in statement.lines)
    by_token = {line["token"]: int(line["micro_usd"]) for bill in bills.values() for line in bill["lines"]}
    same = by_token == {line.token: line.accrued for line in statement.lines}
    result = job.progress.result or {}
    if result:
        _show_result(result, statement, billed, time.monotonic() - job.submitted_at, console)
    else:
        console.print(
            f"\n[red]The job printed no result.[/] The end of its output:\n{job.progress.last_words}", markup=True
        )
    return [
        Finding("the job succeeded", job.exit_code == 0 and bool(result), f"exit code {job.exit_code}"),
        Finding("the queue started it once", (len(jobs), attempts) == (1, 1), f"{attempts} attempt of {len(jobs)} job"),
        Finding("a burst happened", launched > 0, f"{launched} instances"),
        Finding("launched = ended", launched == ended, f"{launched} = {ended}" if launched == ended else f"{ended}"),
        Finding("the ledger equals the bill", same and billed == statement.total, "line by line"),
        Finding("the journal verifies", broken is None, f"{entries} entries" if broken is None else broken.problem),
    ]


def _show_result(result: dict[str, Any], statement: Statement, billed: int, seconds: float, console: Console) -> None:
    from rich.table import Table

    from fabric.cli.money import dollars, ledger_table

    where = ", ".join(f"{count} on {site}" for site, count in result["trials_per_site"].items())
    best = ", ".join(f"{name} {value}" for name, value in result["best"].items())
    table = Table(title="\nResult", title_justify="left", show_header=False)
    table.add_row("accuracy", f"[bold]{result['test_accuracy']:.1%}[/] on digits no trial was chosen by")
    table.add_row("best setting", best)
    table.add_row("trials", f"{result['trials']}: {where}, on {len(result['trials_per_node'])} nodes")
    table.add_row("time", f"{result['sweep_s']:.0f} s of sweep, {seconds:.0f} s until everything was given back")
    table.add_row("bill of the cloud", dollars(billed))
    table.add_row("our ledger", dollars(statement.total))
    console.print(table)
    console.print(ledger_table(statement))


def _end(context: Context, console: Console) -> Finding:
    from fabric.cli.run_dir import RunDir
    from fabric.cli.steps import Steps
    from fabric.cli.take_down import take_down

    console.print("[bold]Taking everything down[/]")
    steps = Steps(console)
    with steps.shown():
        problem = take_down(context, steps, force=True)
    run = RunDir.of(context.config_path)
    left = run.processes()
    clean = not problem and not left and not run.root.exists()
    return Finding("nothing is left", clean, problem or (f"{len(left)} processes" if left else "no process, no socket"))


def _clean_up(context: Context, console: Console) -> None:
    """After Ctrl-C or an error: everything goes, whatever else happens."""
    from fabric.cli.steps import Steps
    from fabric.cli.take_down import take_down

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    console.print("\nTaking everything down.")
    with suppress(CliError):
        take_down(context, Steps(console, quiet=True), force=True)


def _tell(findings: list[Finding], context: Context, console: Console, seconds: float) -> None:
    console.print()
    for finding in findings:
        mark = "[green]✓[/]" if finding.kept else "[red]✗[/]"
        console.print(f"{mark} {finding.promise} [dim]({finding.detail})[/]")
    good = all(finding.kept for finding in findings)
    console.print(f"{'[green]All as promised' if good else '[red]Not as promised'}[/] after {seconds:.0f} s.")
    console.print(f"Ask why: fabric why latest -c {context.config_path}", soft_wrap=True)


def _end_on_hangup() -> None:
    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

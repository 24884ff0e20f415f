"""``fabric evidence``: where a job's data was, as a signed file, and what verifies it; a report for an auditor."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.evidence.verify import Finding


class _Jobs(click.Group):
    """A group in which a name that is no command of it is a job."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = super().get_command(ctx, cmd_name)
        if known is not None:
            return known
        options = [parameter for parameter in job.params if parameter.name != "name"]
        return click.Command(cmd_name, params=options, help=job.help, callback=lambda output: _write(cmd_name, output))

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        del ctx
        return ["JOB | COMMAND", "[OPTIONS]"]


@click.group(cls=_Jobs)
def evidence() -> None:
    """Write where a job's data was into one signed file; verify one; report a period.

    `fabric evidence JOB` writes the file of that job. A job that is called like a command below is written with
    `fabric evidence job JOB`.
    """


@evidence.command()
@click.argument("name", metavar="JOB")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="A file, instead of the screen.")
def job(name: str, output: Path | None) -> None:
    """Write the evidence of one job: who submitted it, its data class and rule, every node it was on, every denial.

    The journal's chain is verified on the way; nothing is signed if it is broken. The exit code is 1 when there is no
    such job, or when the job was where its class does not allow it: the file is written all the same.
    """
    _write(name, output)


@evidence.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--key", "key", metavar="PUBLIC", help="The public key, as `fabric evidence key` prints it, or a PEM file."
)
@click.option(
    "--journal",
    "export",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A journal export: also check that no entry about the job was left out of FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(file: Path, key: str | None, export: Path | None, as_json: bool) -> None:
    """Verify an evidence file. It needs the file and the public key and nothing else.

    Without --key, the key of the fabric on this machine is taken where there is one; without that, it is only
    checked that the file is whole, and the answer says so.

    The exit code is 0 when the file is genuine and the job was only where its class allows it; otherwise it is 1,
    and what is wrong is named.
    """
    from fabric.evidence.verify import verify_evidence

    content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    wanted = _key(key)
    finding = verify_evidence(content, wanted)
    if export is not None and not finding.problems:
        finding = _with_journal(finding, export)
    if as_json:
        click.echo(json.dumps(_as_json(finding, wanted is not None), indent=2))
    else:
        _tell(finding, wanted is not None)
    if not finding.is_good:
        raise click.exceptions.Exit(Exit.NO)


@evidence.command("key")
@click.option("--pem", is_flag=True, help="In PEM, as openssl reads it.")
def key_(pem: bool) -> None:
    """Print the public key that evidence of this fabric verifies with; give it to whoever verifies.

    The private key is made on first use, in secrets/evidence.key under the state directory.
    """
    from fabric.evidence.keys import public_bytes, public_pem
    from fabric.evidence.verify import key_text

    public = public_bytes(_signing_key())
    click.echo(public_pem(public).rstrip("\n") if pem else key_text(public))


@evidence.command()
@click.option(
    "--from", "begin", required=True, metavar="DATE", help="First day, or a time: 2026-01-01, 2026-01-01T08:00 (UTC)."
)
@click.option(
    "--to", "end", required=True, metavar="DATE", help="Last day, which is included, or a time, which is not."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; so without --html.")
@click.option(
    "--html", "html", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a page fit to print."
)
def report(begin: str, end: str, as_json: bool, html: Path | None) -> None:
    """Report a period: jobs by data class, sites touched, denials, widened classes, changes of the configuration.

    The journal's chain is verified first. Times are UTC. The exit code is 1 when work ran where its class does not
    allow it: the report says where.
    """
    from fabric.evidence.report import report as make

    since, until = _time(begin, "--from", last=False), _time(end, "--to", last=True)
    if until <= since:
        raise click.BadParameter("the period ends before it begins", param_hint="--to")
    context = current()
    with context.journal() as journal:
        broken = journal.verify()
        if broken is not None:
            raise CliError(
                Exit.NO,
                f"the journal is broken at entry {broken.seq}: {broken.problem}",
                "Nothing was reported. See docs/reference/journal.md for what this means.",
            )
        told = make(journal.read(), since, until, context.config_in_force.fabric.name, time.time())
    if html is not None:
        from fabric.evidence.page import page

        _save(html, page(told))
        click.echo(f"written to {html}", err=True)
    if as_json or html is None:
        click.echo(json.dumps(told, indent=2))
    if told["violations"]:
        raise click.exceptions.Exit(Exit.NO)


def _write(name: str, output: Path | None) -> None:
    from fabric.evidence.extract import NoEvidenceError, extract
    from fabric.evidence.keys import sign

    context = current()
    with context.journal() as journal:
        try:
            made = extract(journal.read(), name, context.config_in_force.fabric.name, time.time())
        except NoEvidenceError as error:
            raise CliError(
                Exit.NO,
                f"{error}",
                "Jobs are listed by: fabric journal show --kind job.submitted. Commands: job, key, report, verify.",
            ) from error
    text = sign(made, _signing_key()).text()
    if output is None:
        click.echo(text, nl=False)
    else:
        _save(output, text)
        count = len(made.entries)
        click.echo(f"{count} of {made.checkpoint.seq} entries of the journal prove it; written to {output}", err=True)
    for finding in made.statement["findings"]:
        click.echo(f"fabric: {finding}", err=True)
    if made.statement["findings"]:
        raise click.exceptions.Exit(Exit.NO)


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(Exit.FAILED, f"{path} cannot be written: {error.strerror}", "Name another file.") from error


def _signing_key() -> Any:
    from fabric.evidence.keys import BadKeyError, signing_key

    try:
        return signing_key(current().state_dir)
    except (BadKeyError, OSError) as error:
        raise CliError(Exit.FAILED, f"the evidence key cannot be used: {error}") from error


def _key(given: str | None) -> bytes | None:
    from fabric.evidence.keys import BadKeyError, known_public_key, read_public_key

    try:
        if given is None:
            return known_public_key(current().state_dir)
        named = Path(given)
        return read_public_key(named.read_text() if not given.startswith("ed25519:") and named.is_file() else given)
    except BadKeyError as error:
        if given is None:
            return None
        raise click.BadParameter(str(error), param_hint="--key") from None
    except (CliError, OSError, UnicodeDecodeError):
        # Without a key that was named, a machine without a fabric is as good as any.
        if given is None:
            return None
        raise


def _with_journal(finding: Finding, export: Path) -> Finding:
    from fabric.evidence.against import left_out

    assert finding.evidence is not None  # noqa: S101 - there are no problems
    with export.open(encoding="utf-8", errors="surrogateescape") as lines:
        return left_out(finding, lines)


def _tell(finding: Finding, vouched: bool) -> None:
    from fabric.cli.screen import plain

    for problem in (*finding.problems, *finding.violations):
        click.echo(plain(problem))
    if finding.problems or finding.evidence is None:
        click.echo("not valid: nothing in this file may be relied on")
        return
    from fabric.evidence.verify import key_text

    made, told = finding.evidence, finding.evidence.statement
    by = f"signed by {key_text(made.key)}"
    by += "" if vouched else "; whose key that is was not checked: give the public key with --key"
    point, rule = made.checkpoint, told["rule"] or {"allowed_sites": []}
    sites = sorted({node["site"] or "an unknown site" for node in told["nodes"]})
    lines = [
        f"job {told['job']} of {told['user']}{', team ' + told['team'] if told['team'] else ''}: {told['phase']}",
        f"data class {told['data_class']}, allowed at {', '.join(rule['allowed_sites']) or 'no site'}",
        f"ran on {len(told['nodes'])} nodes at {', '.join(sites) or 'no site'}; {len(told['denials'])} denials",
        f"journal of {point.fabric} at {_utc(point.at)}, head {point.seq}:{point.hash.hex()}",
        *(f"not shown: {gap}" for gap in told["gaps"]),
    ]
    for line in lines:
        click.echo(plain(line))
    click.echo(f"{'genuine, but the job was where it may not be' if finding.violations else 'valid'}: {by}")


def _as_json(finding: Finding, vouched: bool) -> dict[str, Any]:
    return {
        "ok": finding.is_good,
        "genuine": not finding.problems,
        "key_checked": vouched,
        "problems": list(finding.problems),
        "violations": list(finding.violations),
        "statement": None if finding.problems or finding.evidence is None else finding.evidence.statement,
    }


def _time(text: str, option: str, *, last: bool) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a day such as 2026-01-31 nor a time such as 2026-01-31T12:00", param_hint=option
        ) from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    # A day that ends a period belongs to it.
    return (found + timedelta(days=1) if last and len(text) == len("2026-01-31") else found).timestamp()


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

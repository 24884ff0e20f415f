"""``fabric why``: a decision, node, launch or job explained from the journal, decided again as a check."""

from __future__ import annotations

import json
import re
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.cli.context import Context
    from fabric.cli.receipts import Receipt
    from fabric.journal.base import Entry


_LIKE_A_JOB = re.compile(r"raysubmit_\w+|[0-9a-f]{8}")


@click.command(short_help="Explain a decision, a node, a launch or a job from the journal.")
@click.argument("subject")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def why(subject: str, as_json: bool) -> None:
    """Explain SUBJECT from the journal.

    \b
    SUBJECT is one of
      latest            the newest decision that bought or gave back something, else the newest
      a number          the decision with this position in the journal
      fab-…             a launch by its token, or the beginning of it
      an instance id    the same by the cloud's id, or the beginning of it
      a Ray node id     the same by Ray's id, or the beginning of it
      onprem/SITE/NODE  a machine of your own; NODE alone will do
      a job             its submission id or Ray's job id: why it waits, its attempts, what was decided meanwhile

    Every decision is decided again from the snapshot that is in its receipt. If that gives something else, it says
    exactly what, and the exit code is 1; so it is when nothing has that name.
    """  # noqa: D301 - \b is click's mark for "do not wrap"
    context = current()
    with context.journal() as journal:
        entries = list(journal.read())
    told = _told(context, entries, subject)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _print(told)
    if not all(decision["recomputed_the_same"] for decision in told["decisions"]):
        raise click.exceptions.Exit(Exit.NO)


def _told(context: Context, entries: list[Entry], subject: str) -> dict[str, Any]:
    from fabric.cli.subjects import meant, names, unknown

    if subject == "latest":
        return _decisions([_latest(entries)])
    # Ray's job ids may be digits only; they begin with a zero, as no position does.
    if subject.isdecimal() and not subject.startswith("0"):
        return _decisions([_numbered(entries, int(subject))])
    known = names(entries)
    token = meant(known, subject)
    if token is not None:
        told = _life(entries, token)
    else:
        told = _queued(context, entries, subject) or _past_the_queue(context, entries, subject)
    if told is None:
        raise unknown(known, subject)
    return told


def _latest(entries: list[Entry]) -> Receipt:
    from fabric.cli.receipts import read_receipt

    newest: Receipt | None = None
    for entry in reversed(entries):
        receipt = read_receipt(entry)
        if receipt is not None and receipt.acts:
            return receipt
        newest = newest or receipt
    if newest is None:
        raise CliError(Exit.NO, "the journal has no decision yet")
    return newest


def _numbered(entries: list[Entry], seq: int) -> Receipt:
    from fabric.cli.receipts import read_receipt

    entry = next((entry for entry in entries if entry.seq == seq), None)
    receipt = read_receipt(entry) if entry is not None else None
    if receipt is None:
        what = f"is a {entry.kind}, not a decision this version can read" if entry is not None else "does not exist"
        raise CliError(Exit.NO, f"entry {seq} {what}", "fabric journal show --kind decision lists the decisions.")
    return receipt


def _life(entries: list[Entry], token: str) -> dict[str, Any]:
    """One launch: its story, the decision it came from, and the decisions that gave it back."""
    from fabric.cli.receipts import receipts
    from fabric.cli.story import stands, story
    from fabric.model.events import Event
    from fabric.model.nodes import Market

    intent = next((e for e in entries if e.kind == Event.LAUNCH_INTENDED and e.data.get("token") == token), None)
    about: list[Receipt] = []
    if intent is not None and intent.data.get("market") != Market.OWNED:
        node_type, offer = str(intent.data.get("node_type")), str(intent.data.get("offer"))
        before = receipts(reversed(entries[: entries.index(intent)]))
        about += islice((receipt for receipt in before if receipt.bought(node_type, offer)), 1)
    about += [receipt for receipt in receipts(entries) if receipt.gave_back(token)]
    lines = [{"seq": entry.seq, "at": entry.at, "sentence": text} for entry, text in story(entries, token)]
    return {"subject": token, "story": lines, "now": stands(entries, token, time.time()), **_decisions(about)}


def _queued(context: Context, entries: list[Entry], name: str) -> dict[str, Any] | None:
    """A job of the queue from its submission to its end, and why it waits; None if the journal has none."""
    from fabric.cli.context import get_json
    from fabric.cli.job_story import job_told, queued_as
    from fabric.cli.receipts import receipts

    job = queued_as(entries, name)
    if job is None:
        return None
    queue = get_json(f"http://{context.config_in_force.listen.controller}/queue?job={quote(job, safe='')}")
    told = job_told(entries, job, queue, time.time())
    span = told.pop("span")
    about = receipts(entry for entry in entries if span and span[0] - 1 <= entry.at <= span[1] + 1)
    told["note"] = "The decisions bought or gave back something in its time; Ray does not say whose demand waits."
    return {**told, **_decisions([receipt for receipt in about if receipt.acts])}


def _past_the_queue(context: Context, entries: list[Entry], job_id: str) -> dict[str, Any] | None:
    """What was decided while a job ran that came to Ray past the gateway; None if Ray says that there is no such job.

    Raises:
        CliError: it looks like a job, and Ray, who alone knows when it ran, does not answer.
    """
    from fabric.cli.context import get_json
    from fabric.cli.programs import token_path
    from fabric.cli.receipts import receipts

    config = context.config_in_force
    path = token_path(Path(config.fabric.state))
    headers = {"Authorization": f"Bearer {path.read_text().strip()}"} if path.exists() else {}
    api = f"http://{config.ray.dashboard}/api"
    job = get_json(f"{api}/jobs/{quote(job_id, safe='')}", headers=headers)
    if job is None or "start_time" not in job:
        if _LIKE_A_JOB.fullmatch(job_id) and get_json(f"{api}/version", headers=headers) is None:
            raise CliError(
                Exit.UNAVAILABLE,
                f"when {job_id} ran is known to Ray only, and Ray does not answer on {config.ray.dashboard}",
                "Start the fabric with: fabric up. Or see all decisions: fabric journal show --kind decision",
            )
        return None
    begun = float(job["start_time"] or 0) / 1000
    ended = float(job.get("end_time") or time.time() * 1000) / 1000
    told = _decisions(list(receipts(entry for entry in entries if begun - 1 <= entry.at <= ended + 1)))
    told["subject"] = job_id
    told["note"] = "Ray does not say whose demand waits: these are all decisions from its submission to its end."
    return told


def _decisions(found: list[Receipt]) -> dict[str, Any]:
    return {"decisions": [receipt.to_json() for receipt in found]}


def _print(told: dict[str, Any]) -> None:
    from fabric.cli.receipts import at

    if "subject" in told:
        click.echo(told["subject"])
    if "note" in told:
        click.echo(told["note"])
    for line in told.get("story", []):
        click.echo(f"  {at(line['at'])}  {line['sentence']}")
    for sentence in told.get("now", []):
        click.echo(f"  {sentence}")
    for decision in told["decisions"]:
        click.echo(f"\nDecision {decision['seq']} at {at(decision['at'])}, policy {decision['policy']}")
        for sentence in (*decision["queue"]["sentences"], *decision["sentences"]):
            click.echo(f"  {sentence}")
        if decision["recomputed_the_same"]:
            click.echo("  Decided again from its receipt: the same.")
        else:
            click.echo(
                "  Decided again from its receipt, it comes out differently. Not the code or the data that decided:"
            )
            for difference in decision["differences"]:
                click.echo(f"    {difference}")
    if not told["decisions"]:
        click.echo("  No decision of the journal is about it.")

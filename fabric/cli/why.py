"""``fabric why``: a decision, node, launch or job explained from the journal, decided again as a check."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.exits import CliError, Exit
from fabric.cli.main import current

if TYPE_CHECKING:
    from fabric.cli.context import Context
    from fabric.cli.receipts import Receipt
    from fabric.journal.base import Entry


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
      an instance id    the same by the cloud's id
      a Ray node id     the same by Ray's id, or the beginning of it
      onprem/SITE/NODE  a machine of your own
      raysubmit_…       a Ray job: what was decided while it waited and ran

    Every decision is decided again from the snapshot that is in its receipt; if that gives something else, it says
    so and the exit code is 1.
    """  # noqa: D301 - \b is click's mark for "do not wrap"
    context = current()
    with context.journal() as journal:
        entries = list(journal.read())
    if subject == "latest":
        told = _decisions([_latest(entries)])
    elif subject.isdigit():
        told = _decisions([_numbered(entries, int(subject))])
    elif subject.startswith("raysubmit_"):
        told = _job(context, entries, subject)
    else:
        told = _life(entries, _token_of(entries, subject))
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _print(told)
    if not all(decision["recomputed_the_same"] for decision in told["decisions"]):
        raise click.exceptions.Exit(Exit.NO)


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


def _token_of(entries: list[Entry], subject: str) -> str:
    """The launch token or on-prem node id that ``subject`` names."""
    found: dict[str, None] = {}
    for entry in entries:
        token = str(entry.data.get("token") or entry.data.get("node") or "")
        ids = (str(entry.data.get("instance") or ""), str(entry.data.get("ray_node_id") or ""))
        if token and (token == subject or token.startswith(subject) or any(i and i.startswith(subject) for i in ids)):
            found[token] = None
    if not found:
        found = _by_ray_node_id(entries, subject)
    if subject in found:
        return subject
    if len(found) > 1:
        raise CliError(Exit.NO, f"{subject} names several: {', '.join(list(found)[:8])}", "Give more of it.")
    if not found:
        raise CliError(
            Exit.NO, f"the journal knows nothing named {subject}", "fabric nodes lists nodes; fabric why --help, names."
        )
    return next(iter(found))


def _by_ray_node_id(entries: list[Entry], subject: str) -> dict[str, None]:
    from fabric.cli.receipts import receipts

    return {
        node.token or node.instance_id: None
        for receipt in receipts(reversed(entries))
        for node in receipt.snapshot.nodes
        if node.ray_node_id and node.ray_node_id.startswith(subject)
    }


def _life(entries: list[Entry], token: str) -> dict[str, Any]:
    """One launch: its story, the decision it came from, and the decisions that gave it back."""
    from fabric.cli.receipts import read_receipt, receipts
    from fabric.cli.story import story
    from fabric.model.events import Event

    intent = next(
        (e for e in entries if e.kind == Event.LAUNCH_INTENDED and e.data.get("token") == token),
        None,
    )
    about: list[Receipt] = []
    if intent is not None and intent.data.get("market") != "owned":
        for entry in reversed(entries[: intent.seq]):
            receipt = read_receipt(entry)
            if receipt is not None and receipt.decision.launches:
                about.append(receipt)
                break
    about += [receipt for receipt in receipts(entries) if receipt.concerns(token)]
    lines = [{"seq": entry.seq, "at": entry.at, "sentence": text} for entry, text in story(entries, token)]
    return {"subject": token, "story": lines, **_decisions(about)}


def _job(context: Context, entries: list[Entry], submission_id: str) -> dict[str, Any]:
    """What was decided between the submission of a Ray job and its end; Ray is asked when that was."""
    from pathlib import Path

    from fabric.cli.context import get_json
    from fabric.cli.programs import token_path
    from fabric.cli.receipts import receipts

    config = context.config_in_force
    path = token_path(Path(config.fabric.state))
    headers = {"Authorization": f"Bearer {path.read_text().strip()}"} if path.exists() else {}
    job = get_json(f"http://{config.ray.dashboard}/api/jobs/{submission_id}", headers=headers)
    if job is None:
        raise CliError(
            Exit.UNAVAILABLE,
            f"Ray does not answer for {submission_id}: the head is not running, or it knows no such job",
            "List jobs with: ray job list",
        )
    begun = float(job.get("start_time") or 0) / 1000
    ended = float(job.get("end_time") or time.time() * 1000) / 1000
    during = [entry for entry in entries if begun - 1 <= entry.at <= ended + 1]
    told = _decisions(list(receipts(during)))
    told["subject"] = submission_id
    told["note"] = "Ray does not say whose demand waits: these are all decisions from its submission to its end."
    return told


def _decisions(found: list[Receipt]) -> dict[str, Any]:
    return {"decisions": [receipt.to_json() for receipt in found]}


def _print(told: dict[str, Any]) -> None:
    if "subject" in told:
        click.echo(told["subject"])
    if "note" in told:
        click.echo(told["note"])
    for line in told.get("story", []):
        click.echo(f"  {_at(line['at'])}  {line['sentence']}")
    for decision in told["decisions"]:
        queue = decision["queue"]
        click.echo(
            f"\nDecision {decision['seq']} at {_at(decision['at'])}, policy {decision['policy']}; "
            f"{queue['gpus']:g} GPUs wanted by {queue['requests']} requests beyond what was free or coming"
        )
        for sentence in decision["sentences"]:
            click.echo(f"  {sentence}")
        click.echo(
            "  Decided again from its receipt: the same."
            if decision["recomputed_the_same"]
            else "  Decided again from its receipt, it comes out differently: this is not the code that decided."
        )


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

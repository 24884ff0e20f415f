"""The life of one launch or node as lines of text, one per journal entry that changed something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoscaler.core.lifecycle import fold_instances
from fabric.cli.receipts import at
from fabric.journal.base import Entry
from fabric.model.events import Event
from fabric.model.money import format_usd
from fabric.model.nodes import Market
from fabric.money.ledger import fold

Data = Mapping[str, Any]


def story(entries: Sequence[Entry], token: str) -> list[tuple[Entry, str]]:
    """Entries about ``token`` with a sentence each; renewals of its lease are counted in one line at the last."""
    # A refused join names the ticket it was tried with, and no launch.
    tickets = {entry.data.get("ticket_sha256") for entry in entries if entry.data.get("token") == token} - {None, ""}
    told: list[tuple[Entry, str]] = []
    renewals: list[Entry] = []
    for entry in entries:
        refused_join = entry.kind == Event.JOIN_REFUSED and entry.data.get("ticket_sha256") in tickets
        if token not in (entry.data.get("token"), entry.data.get("node")) and not refused_join:
            continue
        if entry.kind == Event.LEASE_RENEWED:
            renewals.append(entry)
            continue
        tell = _TOLD.get(entry.kind)
        told.append((entry, tell(entry.data) if tell else entry.kind))
    if renewals:
        times = "once" if len(renewals) == 1 else f"{len(renewals)} times"
        told.append((renewals[-1], f"It renewed its lease {times}; the last time here."))
    return sorted(told, key=lambda item: item[0].seq)


def stands(entries: Sequence[Entry], token: str, now: float) -> list[str]:
    """Where a launch stands now, how long each stage took, and what it has cost; empty for what was not rented."""
    record = fold_instances(entries).get(token)
    if record is None or record.market == Market.OWNED:
        return []
    stages = [
        (name, then - record.intended_at)
        for name, then in (("made", record.accepted_at), ("joined", record.joined_at), ("ended", record.ended_at))
        if then is not None and record.intended_at is not None
    ]
    lines = [f"It is {record.phase}."]
    if stages:
        lines.append(f"After its launch was intended, {', '.join(f'{name} in {s:.1f} s' for name, s in stages)}.")
    if record.phase.charged and record.lease_until is not None:
        lines.append(f"Its lease runs until {at(record.lease_until)}.")
    for line in fold(entries).statement(round(now * 1000)).lines:
        if line.token == token:
            parts = ", ".join(f"{format_usd(amount)} {cause.replace('_', ' ')}" for cause, amount in line.parts.items())
            so_far = "" if line.ended_at_ms is not None else " so far"
            unknown = "" if line.priced else " (its price is not in this journal)"
            lines.append(f"It cost {format_usd(line.accrued)}{so_far}: {parts}{unknown}.")
            return lines
    return [*lines, "It cost nothing."]


def _intended(data: Data) -> str:
    if data.get("market") == "owned":
        return f"A join ticket was issued for the machine; it is a {data['node_type']} of site {data['site']}."
    price = format_usd(int(data["per_hour"]))
    return f"The launch was intended: {data['offer']} at {price} an hour, to join within its deadline."


def _accepted(data: Data) -> str:
    return f"The cloud made it: instance {data.get('instance')}."


def _refused(data: Data) -> str:
    return f"The cloud refused it ({data.get('error')}): {data.get('message')}"


def _cancelled(data: Data) -> str:
    return f"The launch was given up: {data.get('cause')}."


def _joined(data: Data) -> str:
    return f"It joined the cluster, with Python {data.get('python')} and Ray {data.get('ray')}."


def _terminate(data: Data) -> str:
    return f"Its end was intended by the {data.get('by')}: {str(data.get('cause')).replace('_', ' ')}."


def _ended(data: Data) -> str:
    begun, ended = data.get("launched_at_ms"), data.get("ended_at_ms")
    lived = f", {(int(ended) - int(begun)) / 1000:.1f} s after it began to charge" if begun and ended else ""
    return f"It is no longer known to the cloud{lived}." if data.get("estimated") else f"It ended{lived}."


_TOLD: Mapping[str, Callable[[Data], str]] = {
    Event.LAUNCH_INTENDED: _intended,
    Event.LAUNCH_ACCEPTED: _accepted,
    Event.LAUNCH_REFUSED: _refused,
    Event.LAUNCH_CANCELLED: _cancelled,
    Event.NODE_JOINED: _joined,
    Event.JOIN_REFUSED: lambda data: f"A join was refused: {data.get('sentence') or data.get('reason')}",
    Event.SPOT_NOTICE: lambda data: "The cloud announced that it takes it back.",  # noqa: ARG005
    Event.NODE_LOST: lambda data: "Ray lost the node.",  # noqa: ARG005
    Event.TERMINATE_INTENDED: _terminate,
    Event.INSTANCE_ENDED: _ended,
    Event.INSTANCE_ADOPTED: lambda data: f"It was found by its tag and adopted: instance {data.get('instance')}.",
    Event.ORPHAN_FOUND: lambda data: f"It was found with nothing to justify it: {data.get('cause')}.",
    Event.ONPREM_NODE_SEEN: lambda data: "It was seen alive in the cluster.",  # noqa: ARG005
    Event.ONPREM_NODE_DEAD: lambda data: "It was found dead. Nothing is bought for that by itself.",  # noqa: ARG005
}

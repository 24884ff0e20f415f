"""Receipts read back: each decision of the journal as sentences, decided again from what it was decided on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.core.codec import CodecError, decode_decision, decode_snapshot, encode_decision
from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.snapshot import Snapshot
from fabric.journal.base import Entry
from fabric.model.decisions import Decision
from fabric.model.events import Event
from fabric.telemetry.tell import tell


@dataclass(frozen=True, slots=True)
class Receipt:
    """One decision of the journal.

    Attributes:
        entry: as stored.
        snapshot, decision: what was decided on, and what was decided.
        again: what ``decide`` makes of the same snapshot now; None if its policy is not known here any more.
    """

    entry: Entry
    snapshot: Snapshot
    decision: Decision
    again: Decision | None

    @property
    def sentences(self) -> list[str]:
        """The decision as recomputed, in sentences; as stored, where it cannot be recomputed."""
        names = {node.node_id: f"{node.token or node.instance_id} ({node.node_type})" for node in self.snapshot.nodes}
        return tell(self.again or self.decision, names)

    @property
    def differs(self) -> bool:
        """Whether deciding again gave something else: then this code is not the code that decided."""
        return self.again is None or encode_decision(self.again) != encode_decision(self.decision)

    @property
    def acts(self) -> bool:
        """Whether it bought something or gave something back."""
        return bool(self.decision.launches or self.decision.drains)

    def concerns(self, token: str) -> bool:
        """Whether it gave this launch back."""
        ids = {node.node_id for node in self.snapshot.nodes if node.token == token}
        return any(drain.node_id in ids for drain in self.decision.drains)

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "seq": self.entry.seq,
            "at": self.entry.at,
            "policy": self.entry.data.get("policy"),
            "queue": {"gpus": self.decision.depth.gpus, "requests": self.decision.depth.requests},
            "sentences": self.sentences,
            "recomputed_the_same": not self.differs,
        }


def read_receipt(entry: Entry) -> Receipt | None:
    """The receipt in an entry; None if it is not one, or one of a version this code cannot read."""
    if entry.kind != Event.DECISION:
        return None
    try:
        snapshot, stored = decode_snapshot(entry.data["snapshot"]), decode_decision(entry.data["decision"])
    except (KeyError, CodecError):
        return None
    return Receipt(entry, snapshot, stored, _again(entry.data, snapshot))


def receipts(entries: Iterable[Entry]) -> Iterator[Receipt]:
    """Every receipt among the entries, in order."""
    for entry in entries:
        receipt = read_receipt(entry)
        if receipt is not None:
            yield receipt


def _again(data: Mapping[str, Any], snapshot: Snapshot) -> Decision | None:
    try:
        policy = policy_named(str(data["policy"]))
    except KeyError:
        return None
    return decide(snapshot, policy, float(data["now"]))

"""The receipt of a decision: what the journal keeps of it, enough to decide the same again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoscaler.core.codec import CodecError, decode_decision, encode_decision, encode_snapshot
from autoscaler.shell.brain import Receipts, Thought
from fabric.model.decisions import BaselineState
from fabric.telemetry.tell import tell


def receipts() -> Receipts:
    """Receipts with the whole snapshot, losslessly."""
    return Receipts(_write, _sentences, _baseline)


def _write(thought: Thought) -> dict[str, Any]:
    return {
        "policy": thought.policy,
        "now": thought.decision.at,
        "snapshot": encode_snapshot(thought.snapshot),
        "decision": encode_decision(thought.decision),
    }


def _sentences(thought: Thought) -> list[str]:
    names = {node.node_id: f"{node.token or node.instance_id} ({node.node_type})" for node in thought.snapshot.nodes}
    return tell(thought.decision, names)


def _baseline(receipt: Mapping[str, Any]) -> BaselineState:
    try:
        return decode_decision(receipt["decision"]).baseline
    except (KeyError, CodecError):
        # A receipt of another version: the baseline's clocks begin anew, which only makes a burst later.
        return BaselineState()

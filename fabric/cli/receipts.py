"""Receipts read back: each decision of the journal as sentences, decided again from what it was decided on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from autoscaler.core.codec import CodecError, decode_decision, decode_snapshot, encode_decision
from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.snapshot import Snapshot, Threshold
from fabric.journal.base import Entry
from fabric.model.decisions import Decision
from fabric.model.events import Event
from fabric.telemetry.tell import tell

_ABSENT = "nothing"
_LONGEST_VALUE = 160


@dataclass(frozen=True)
class Receipt:
    """One decision of the journal: the entry, what was decided on, and what was decided."""

    entry: Entry
    snapshot: Snapshot
    decision: Decision

    @property
    def sentences(self) -> list[str]:
        """What was decided, and why."""
        return tell(self.decision, self._names)

    @property
    def queue(self) -> list[str]:
        """What waited, and how the baseline stood to it."""
        depth, state = self.decision.depth, self.decision.baseline
        amounts = [f"{amount:g} {unit}" for amount, unit in ((depth.gpus, "GPUs"), (depth.cpus, "CPUs")) if amount]
        of = f" of {' and '.join(amounts)}" if amounts else ""
        lines = [f"Waiting for what nothing free or coming can hold: {depth.requests} requests{of}."]
        for threshold, since in zip(self.snapshot.rules.baseline, state.above_since, strict=False):
            stands = f"reached since {at(since)}" if since is not None else "not reached"
            lines.append(f"Threshold of {_limit(threshold)} for {threshold.for_s:g} s: {stands}.")
        opened = f"open since {at(state.open_since)}" if state.open_since is not None else "closed"
        lines.append(f"The burst is {opened}.")
        return lines

    @cached_property
    def differences(self) -> list[str]:
        """What comes out differently when the same is decided again, one sentence each; empty: the same."""
        data = self.entry.data
        try:
            again = decide(self.snapshot, policy_named(str(data["policy"])), float(data["now"]))
        except KeyError:
            return [f"the policy {data.get('policy')!r} or the time is not known here, so nobody can decide again"]
        except Exception as error:
            return [f"deciding again fails: {type(error).__name__}: {error}"]
        found = list(_differences(encode_decision(self.decision), encode_decision(again)))
        if found and tell(again, self._names) != self.sentences:
            found.append(f"decided again it says: {' '.join(tell(again, self._names))}")
        return found

    @property
    def acts(self) -> bool:
        """Whether it bought something or gave something back."""
        return bool(self.decision.launches or self.decision.drains)

    def bought(self, node_type: str, offer: str) -> bool:
        """Whether it planned a launch of this node type, or with this offer to fall back to."""
        return any(launch.node_type == node_type or offer in launch.offers for launch in self.decision.launches)

    def gave_back(self, token: str) -> bool:
        """Whether it gave this launch back."""
        ids = {node.node_id for node in self.snapshot.nodes if node.token == token}
        return any(drain.node_id in ids for drain in self.decision.drains)

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        depth = self.decision.depth
        return {
            "seq": self.entry.seq,
            "at": self.entry.at,
            "policy": self.entry.data.get("policy"),
            "queue": {"gpus": depth.gpus, "cpus": depth.cpus, "requests": depth.requests, "sentences": self.queue},
            "sentences": self.sentences,
            "recomputed_the_same": not self.differences,
            "differences": self.differences,
        }

    @property
    def _names(self) -> dict[str, str]:
        return {node.node_id: f"{node.token or node.instance_id} ({node.node_type})" for node in self.snapshot.nodes}


def read_receipt(entry: Entry) -> Receipt | None:
    """The receipt in an entry; None if it is not one, or one of a version this code cannot read."""
    if entry.kind != Event.DECISION:
        return None
    try:
        return Receipt(entry, decode_snapshot(entry.data["snapshot"]), decode_decision(entry.data["decision"]))
    except (KeyError, CodecError):
        return None


def receipts(entries: Iterable[Entry]) -> Iterator[Receipt]:
    """Every receipt among the entries, in order."""
    for entry in entries:
        receipt = read_receipt(entry)
        if receipt is not None:
            yield receipt


def at(seconds: float) -> str:
    """A Unix time as people of this machine's time zone read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _limit(threshold: Threshold) -> str:
    limits = [f"{limit:g} {unit}" for limit, unit in ((threshold.gpus, "GPUs"), (threshold.cpus, "CPUs")) if limit]
    return " and ".join(limits) or "anything at all"


def _differences(kept: object, again: object, path: str = "") -> Iterator[str]:
    if isinstance(kept, Mapping) and isinstance(again, Mapping):
        one, other = cast("Mapping[str, object]", kept), cast("Mapping[str, object]", again)
        for key in sorted({*one, *other}):
            yield from _differences(one.get(key, _ABSENT), other.get(key, _ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(kept, list) and isinstance(again, list) and len(kept) == len(again):
        for index, (one, other) in enumerate(zip(kept, again, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif kept != again:
        yield f"{path}: the receipt says {_short(kept)}, decided again it is {_short(again)}"


def _short(value: object) -> str:
    text = value if value == _ABSENT else json.dumps(value)
    text = str(text)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"

"""A whole decision in sentences: what is bought, what is given back, what is not bought, each with its reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fabric.model.decisions import Decision, Drain, Launch, Refusal
from fabric.telemetry.reasons import sentences


def tell(decision: Decision, names: Mapping[str, str] | None = None) -> list[str]:
    """One line for each launch, drain and refusal, in this order; one line when there is none.

    Args:
        decision: what was decided.
        names: what people call a node, by its node id; an id that is not in here is shown as it is.
    """
    told = [
        *(_launch(launch) for launch in decision.launches),
        *_drains(decision.drains, names or {}),
        *(_refusal(refusal) for refusal in decision.refusals),
    ]
    return told or [_quiet(decision)]


def _quiet(decision: Decision) -> str:
    if decision.depth.requests:
        return "Nothing is bought or given back: what waits has to go on waiting."
    return "Nothing is bought or given back: nothing waits that nodes here or coming cannot hold."


def _launch(launch: Launch) -> str:
    return f"Buying {launch.count} x {launch.node_type}. {' '.join(sentences(launch.reasons))}".rstrip()


def _drains(drains: Iterable[Drain], names: Mapping[str, str]) -> list[str]:
    return [
        f"Giving back {names.get(drain.node_id, drain.node_id)}. {' '.join(sentences(drain.reasons))}".rstrip()
        for drain in drains
    ]


def _refusal(refusal: Refusal) -> str:
    return f"Not buying for {refusal.subject}. {' '.join(sentences(refusal.reasons))}".rstrip()

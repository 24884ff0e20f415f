"""The baseline: queue depth below which nothing bursts, with memory of how long it has been exceeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoscaler.core.snapshot import Threshold
from fabric.model.decisions import BaselineState, QueueDepth


def advance(
    state: BaselineState, thresholds: Sequence[Threshold], close_for_s: float, depth: QueueDepth, now: float
) -> BaselineState:
    """The baseline's state at ``now``, given the state of the tick before.

    Any threshold opens the burst once the depth has been at or above it for its time without a break. An open
    burst stays open until the depth has been below every threshold for ``close_for_s``, so that a queue that
    hovers around a threshold does not open and close it again and again. Without thresholds the burst is
    always open: Ray's own behaviour.

    Args:
        state: as left by the previous tick; one of another number of thresholds (the file was edited) starts anew,
            save that an open burst stays open.
        thresholds: the baseline, in the order of the configuration.
        close_for_s: seconds below every threshold after which the burst closes.
        depth: queue depth now.
        now: Unix seconds; a clock that went back counts as no time passed.
    """
    if not thresholds:
        return BaselineState(open_since=now if state.open_since is None else state.open_since)
    known = state.above_since if len(state.above_since) == len(thresholds) else (None,) * len(thresholds)
    above = tuple(
        _since(before, now) if exceeds(threshold, depth) else None
        for before, threshold in zip(known, thresholds, strict=True)
    )
    state = replace(state, above_since=above)
    opener = next(
        (
            index
            for index, (since, threshold) in enumerate(zip(above, thresholds, strict=True))
            if since is not None and now - since >= threshold.for_s
        ),
        None,
    )
    if opener is not None and state.open_since is None:
        return replace(state, open_since=now, open_threshold=opener, below_since=None)
    if state.open_since is None or any(since is not None for since in above):
        return replace(state, below_since=None)
    below_since = _since(state.below_since, now)
    if now - below_since >= close_for_s:
        return replace(state, open_since=None, open_threshold=None, below_since=None)
    return replace(state, below_since=below_since)


def exceeds(threshold: Threshold, depth: QueueDepth) -> bool:
    """Whether the depth is at or above a threshold, in every unit that the threshold names."""
    if depth.requests <= 0:
        return False
    return depth.gpus >= threshold.gpus and depth.cpus >= threshold.cpus


def _since(before: float | None, now: float) -> float:
    return now if before is None else min(before, now)

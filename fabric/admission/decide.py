"""The queue's decision: which waiting jobs may start now, and why the others may not. Pure and total."""

from __future__ import annotations

from fabric.admission.outcome import Outcome
from fabric.admission.queue import Queue
from fabric.admission.values import Capacity, QueueRules


def admit(queue: Queue, capacity: Capacity, rules: QueueRules, now: float) -> Outcome:
    """Decide once.

    The queue is not changed: what is admitted is in it once its ``job.admitted`` entry has been taken, so every entry
    of the outcome has to be in the journal, and in the queue, before the next decision.

    Args:
        queue: the fold of the journal.
        capacity: nodes and offers as they are now.
        rules: the configuration in force.
        now: Unix seconds.
    """
    del queue, capacity, rules
    return Outcome(at=now)

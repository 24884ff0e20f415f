"""The queue: a fold of the journal that keeps every waiting job in its place, so that a decision need not sort.

``Queue.take`` is called with each entry, ``fabric.admission.decide.admit`` with the queue as it stands.
"""

from __future__ import annotations

from fabric.admission.records import JobRecord, step
from fabric.journal.base import Entry


class Queue:
    """Every job the journal knows, and the waiting ones in order.

    Attributes:
        jobs: by submission id, as ``fabric.admission.records`` folds them.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, JobRecord] = {}

    def take(self, entry: Entry) -> None:
        """Take one entry of the journal; entries that are not about jobs change nothing."""
        step(self.jobs, entry)

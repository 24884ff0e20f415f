"""Following a journal: everything shown or decided is a fold over its entries, kept up to date by a tail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fabric.journal.base import Entry, Journal

State = TypeVar("State")


class Tail:
    """Reads each entry of a journal once.

    Attributes:
        after: position of the last entry that was handed out.
    """

    def __init__(self, journal: Journal, after: int = 0) -> None:
        self._journal = journal
        self.after = after

    def new(self) -> list[Entry]:
        """Entries since the last call, from every process, in order.

        Raises:
            JournalUnavailableError: the journal cannot be read; the next call starts at the same place.
        """
        entries = list(self._journal.read(after=self.after))
        if entries:
            self.after = entries[-1].seq
        return entries

    def stream(self) -> Iterator[Entry]:
        """The same, one by one: the place moves with each entry that is taken."""
        for entry in self._journal.read(after=self.after):
            self.after = entry.seq
            yield entry


def fold(entries: Iterable[Entry], state: State, step: Callable[[State, Entry], State]) -> State:
    """``state`` after ``step`` has seen every entry in order."""
    for entry in entries:
        state = step(state, entry)
    return state

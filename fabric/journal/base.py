"""What every journal store promises; ``tests/contract/test_journal_stores.py`` holds each of them to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as stored.

    Attributes:
        seq: position, from 1, without gaps.
        at: Unix seconds when it was appended, by the appender's clock.
        actor: the process that appended it (``controller``, ``gateway``, ``reaper``, …).
        kind: an ``Event`` value.
        data: a JSON object.
        previous: hash of the entry before it; ``GENESIS`` for the first.
        hash: SHA-256, in hex, of the canonical form of everything else (see ``fabric/journal/chain.py``).
        once: the key under which it was appended one time only; None where there was no such rule.
    """

    seq: int
    at: float
    actor: str
    kind: str
    data: Mapping[str, Any]
    previous: str
    hash: str
    once: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Position and hash of a newest entry, kept outside the journal as an anchor.

    The chain alone cannot show that its newest entries were cut off, or that all of it was written anew. A head
    noted elsewhere (a log, another machine, a print-out) shows both.
    """

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be appended.

    Attributes:
        kind: an ``Event`` value.
        data: a JSON object.
        once: a key that may be appended one time in the life of the journal, for example
            ``ticket:<digest>`` or ``ended:<instance>``; None for no such rule.
    """

    kind: str
    data: Mapping[str, Any]
    once: str | None = None


class AlreadyAppendedError(Exception):
    """The ``once`` key of a draft is taken; ``entry`` is what took it. Nothing of the batch was appended."""

    def __init__(self, once: str, entry: Entry) -> None:
        super().__init__(f"{once} is already in the journal as entry {entry.seq}")
        self.once = once
        self.entry = entry


class JournalUnavailableError(Exception):
    """The store could not be read or written: locked for too long, disk full, gone. Says which and what to do."""


class JournalBrokenError(JournalUnavailableError):
    """What is stored is not what was written, so it cannot be read on. ``verify`` names the entry."""


@dataclass(frozen=True, slots=True)
class Break:
    """Where verification failed: the entry and what is wrong with it."""

    seq: int
    problem: str


class Journal(Protocol):
    """An append-only chain that several processes may append to at once."""

    def append(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Append all drafts, in order, or none; they are durable (synced to disk) when this returns.

        Callers in several threads share one sync (group commit).

        Raises:
            AlreadyAppendedError: a ``once`` key is taken.
            JournalUnavailableError: the store cannot be written; nothing was appended.
            ValueError: a draft is not JSON, or a ``once`` key occurs twice in ``drafts``; nothing was appended.
        """
        ...

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Entries with ``seq > after``, in order, at most ``limit``; no lock is held between two entries.

        Raises:
            JournalBrokenError: an entry cannot be decoded.
            JournalUnavailableError: the store cannot be read.
        """
        ...

    def last_seq(self) -> int:
        """Position of the newest entry; 0 when empty."""
        ...

    def head(self) -> Head:
        """Position and hash of the newest entry; ``Head(0, GENESIS)`` when empty."""
        ...

    def verify(self, expected_head: Head | None = None) -> Break | None:
        """Re-hash the whole chain; None when every entry is as it was written.

        Args:
            expected_head: a head noted earlier; the chain must still pass through it.

        Raises:
            JournalUnavailableError: the store cannot be read at all.
        """
        ...

    def close(self) -> None:
        """Release the store."""
        ...

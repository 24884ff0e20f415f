"""The stores that the journal contract is held against.

A new store joins the suite with one class here: how to open it, and how somebody with the password would tamper.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from fabric.journal.base import Journal
from fabric.journal.sqlite import SqliteJournal


class Store(Protocol):
    """A test's hand on one store."""

    name: str

    def open(self, actor: str = "tester", clock: Callable[[], float] | None = None) -> Journal:
        """One more process's view of the same journal."""
        ...

    def tamper(self, *statements: str, values: Iterable[tuple[Any, ...]] = ()) -> None:
        """Change what is stored behind the journal's back; tables and columns are named as in SQLite."""
        ...

    def close(self) -> None:
        """Close every journal that was opened."""
        ...


class SqliteStore:
    """A SQLite file."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "journal.db"
        self._opened: list[SqliteJournal] = []
        self._ticks = itertools.count(1_700_000_000)

    def open(self, actor: str = "tester", clock: Callable[[], float] | None = None) -> SqliteJournal:
        journal = SqliteJournal(self.path, actor, clock or (lambda: float(next(self._ticks))))
        self._opened.append(journal)
        return journal

    def tamper(self, *statements: str, values: Iterable[tuple[Any, ...]] = ()) -> None:
        given = itertools.chain(values, itertools.repeat(()))
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            for trigger in ("entries_are_never_changed", "entries_are_never_removed"):
                connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            for statement, row in zip(statements, given, strict=False):
                connection.execute(statement, row)

    def close(self) -> None:
        for journal in self._opened:
            journal.close()


STORES: dict[str, Callable[[Path], Store]] = {"sqlite": SqliteStore}

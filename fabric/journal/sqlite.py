"""The journal in one SQLite file: write-ahead log, synced commits, several processes and threads appending.

Threads of one process share a commit: whoever gets the write connection first appends for everyone who is
waiting. Processes take turns through SQLite's write lock. Triggers abort every UPDATE and DELETE, so a slip
cannot change the past; what goes around them is found by ``verify``.
"""

from __future__ import annotations

import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabric.journal import chain
from fabric.journal.base import (
    GENESIS,
    AlreadyAppendedError,
    Break,
    Draft,
    Entry,
    Head,
    JournalUnavailableError,
)
from fabric.journal.chain import Stored, Unreadable
from fabric.journal.sqlite_file import connect, connect_read_only, is_damage, unavailable

_COLUMNS = "seq, at_us, actor, kind, once, data, previous, hash"
_PAGE = 500
_CHUNK = 100
_WAKE_S = 1.0
_INSERT = f"INSERT INTO entries ({_COLUMNS}) VALUES "  # noqa: S608 - fixed names
_SELECT = f"SELECT {_COLUMNS} FROM entries"  # noqa: S608 - fixed names
_SELECT_PAGE = f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?"
_SELECT_ALL = f"{_SELECT} NOT INDEXED ORDER BY seq"
_SELECT_HEAD = "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"


@dataclass(slots=True, eq=False)
class _Request:
    """One call of ``append`` on its way: what to write, then what came of it."""

    drafts: list[tuple[Draft, str]]
    rows: list[Stored] = field(default_factory=list[Stored])
    taken: Stored | None = None
    failure: str | None = None
    done: bool = False
    wake: queue.SimpleQueue[None] = field(default_factory=queue.SimpleQueue[None])


class SqliteJournal:
    """A journal in the SQLite file at ``path``; made, with its directory, if it does not exist.

    Args:
        path: the database file. It must be on a local disk: SQLite's write-ahead log does not work over NFS.
        actor: the process this journal object appends for.
        clock: Unix seconds, for the time of each entry.
        busy_s: how long to wait while another process holds the write lock.
        create: False refuses to make a journal where there is none.

    Raises:
        JournalUnavailableError: the file cannot be opened or is not a journal.
    """

    def __init__(
        self,
        path: str | Path,
        actor: str,
        clock: Callable[[], float] = time.time,
        *,
        busy_s: float = 10.0,
        create: bool = True,
    ) -> None:
        if not actor or not actor.isprintable():
            raise ValueError(f"actor of a journal must be printable and not empty, not {actor!r}")
        self.path = Path(path)
        self.actor = actor
        self._clock = clock
        self._busy_s = busy_s
        self._closed = False
        self._waiting: list[_Request] = []
        self._waiting_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._writer = connect(self.path, busy_s, create=create)
        try:
            self._reader = connect_read_only(self.path, busy_s)
        except BaseException:
            self._writer.close()
            raise

    def append(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Append all drafts, in order, or none; they are on disk when this returns. See ``Journal.append``."""
        request = _Request([_prepare(draft) for draft in drafts])
        keys = [draft.once for draft in drafts if draft.once is not None]
        if len(keys) != len(set(keys)):
            raise ValueError("a once key occurs twice among the drafts")
        if not drafts:
            return []
        self._bring_to_disk(request)
        if request.failure is not None:
            raise JournalUnavailableError(request.failure)
        if request.taken is not None:
            raise AlreadyAppendedError(request.taken.once or "", request.taken.to_entry())
        return [row.to_entry() for row in request.rows]

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Entries with ``seq > after``, in order, fetched a page at a time. See ``Journal.read``."""
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            rows = self._fetch(_SELECT_PAGE, (after, size))
            for row in rows:
                entry = Stored(*row).to_entry()
                after = entry.seq
                yield entry
            if len(rows) < size:
                return
            left = None if left is None else left - size

    def last_seq(self) -> int:
        """Position of the newest entry; 0 when empty."""
        return self.head().seq

    def head(self) -> Head:
        """Position and hash of the newest entry; ``Head(0, GENESIS)`` when empty."""
        rows = self._fetch(_SELECT_HEAD, ())
        return Head(rows[0][0], rows[0][1]) if rows else Head(0, GENESIS)

    def verify(self, expected_head: Head | None = None) -> Break | None:
        """Re-read the file through a connection of its own and re-hash every entry. See ``Journal.verify``."""
        connection = connect_read_only(self.path, self._busy_s)
        connection.text_factory = _text_or_trace
        try:
            found = chain.verify(_raw_rows(connection), expected_head=expected_head)
            return found or _check_indexes(connection)
        except sqlite3.Error as error:
            raise unavailable(error, self.path, self._busy_s) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close both connections; later calls fail with ``JournalUnavailableError``."""
        with self._write_lock, self._read_lock:
            self._closed = True
            self._reader.close()
            self._writer.close()
        self._wake_next()

    def _bring_to_disk(self, request: _Request) -> None:
        """Wait until ``request`` is done: lead a commit when the write connection is free, else be led."""
        with self._waiting_lock:
            self._waiting.append(request)
        try:
            while not request.done:
                if self._write_lock.acquire(blocking=False):
                    try:
                        with self._waiting_lock:
                            group, self._waiting = self._waiting, []
                        self._commit(group)
                    finally:
                        self._write_lock.release()
                        self._wake_next()
                else:
                    with suppress(queue.Empty):
                        request.wake.get(timeout=_WAKE_S)
        except BaseException:
            # Interrupted by a signal: nobody may wait for a leader that is gone.
            with self._waiting_lock, suppress(ValueError):
                self._waiting.remove(request)
            self._wake_next()
            raise

    def _wake_next(self) -> None:
        with self._waiting_lock:
            if self._waiting:
                self._waiting[0].wake.put(None)

    def _commit(self, group: list[_Request]) -> None:
        """Write every request of ``group`` in one transaction; on return each is done, one way or the other."""
        failure: str | None = f"journal {self.path}: the append was interrupted; nothing was appended"
        begun = False
        try:
            if self._closed:
                failure = f"journal {self.path} has been closed; open it again"
                return
            self._writer.execute("BEGIN IMMEDIATE")
            begun = True
            self._write(group)
            self._writer.execute("COMMIT")
            failure = None
        except sqlite3.Error as error:
            begun = False
            failure = str(unavailable(error, self.path, self._busy_s))
        finally:
            if self._closed or not self._writer.in_transaction:
                # A signal may interrupt between COMMIT and the line after it: what is committed is appended.
                failure = None if begun else failure
            else:
                self._writer.execute("ROLLBACK")
            for request in group:
                request.failure = failure
                request.done = True
                request.wake.put(None)

    def _write(self, group: list[_Request]) -> None:
        """Few statements for the whole group: each one lets other threads run and has to wait its turn again."""
        heads = self._writer.execute(_SELECT_HEAD).fetchall()
        seq, previous = heads[0] if heads else (0, GENESIS)
        at_us = round(self._clock() * chain.MICROSECONDS)
        taken = self._taken([draft.once for request in group for draft, _ in request.drafts if draft.once])
        rows: list[Stored] = []
        for request in group:
            request.taken = next((taken[draft.once] for draft, _ in request.drafts if draft.once in taken), None)
            if request.taken is not None:
                continue
            for draft, data in request.drafts:
                row = chain.link(draft, data, seq=seq + 1, at_us=at_us, actor=self.actor, previous=previous)
                seq, previous = row.seq, row.hash
                request.rows.append(row)
                if row.once is not None:
                    taken[row.once] = row
            rows.extend(request.rows)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            places = ",".join(["(?,?,?,?,?,?,?,?)"] * len(chunk))
            self._writer.execute(_INSERT + places, [value for row in chunk for value in _values(row)])

    def _taken(self, keys: list[str]) -> dict[str, Stored]:
        """The entries that hold any of these once keys."""
        found: dict[str, Stored] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            places = ",".join("?" * len(chunk))
            for values in self._writer.execute(f"{_SELECT} WHERE once IN ({places})", chunk).fetchall():
                row = Stored(*values)
                found[row.once or ""] = row
        return found

    def _fetch(self, query: str, values: tuple[int, ...]) -> list[Any]:
        with self._read_lock:
            if self._closed:
                raise JournalUnavailableError(f"journal {self.path} has been closed; open it again")
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise unavailable(error, self.path, self._busy_s) from error


def _prepare(draft: Draft) -> tuple[Draft, str]:
    chain.check_draft(draft)
    return draft, chain.canonical(dict(draft.data))


def _values(row: Stored) -> tuple[int | str | None, ...]:
    return (row.seq, row.at_us, row.actor, row.kind, row.once, row.data, row.previous, row.hash)


def _text_or_trace(raw: bytes) -> str:
    """Text that can be hashed even where it is no longer UTF-8; the hash then differs."""
    return raw.decode("utf-8", "surrogateescape")


def _raw_rows(connection: sqlite3.Connection) -> Iterator[Stored | Unreadable]:
    """Every row in the order of the table itself, undecoded, so that damage is found and not raised."""
    last = count = 0
    try:
        for row in connection.execute(_SELECT_ALL):
            item = _decode(row, last + 1)
            last, count = item.seq, count + 1
            yield item
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        for row in _row_at(connection, count):
            item = _decode(row, last + 1)
            last = item.seq
            yield item
        yield Unreadable(last + 1, f"the database file is damaged there ({error})")


def _row_at(connection: sqlite3.Connection, offset: int) -> list[Any]:
    """The row at ``offset``, if it can be read: the driver reads one row ahead and keeps it back on an error."""
    try:
        return connection.execute(f"{_SELECT_ALL} LIMIT 1 OFFSET {offset}").fetchall()
    except sqlite3.DatabaseError:
        return []


def _decode(row: tuple[Any, ...], place: int) -> Stored | Unreadable:
    seq, at_us, *texts = row
    if not isinstance(at_us, int):
        return Unreadable(place, "changed: its time is not a number")
    for name, value in zip(("actor", "kind", "once", "data", "previous", "hash"), texts, strict=True):
        if not (isinstance(value, str) or (value is None and name == "once")):
            return Unreadable(place, f"changed: its {name} is not text")
    return Stored(seq, at_us, *texts)


def _check_indexes(connection: sqlite3.Connection) -> Break | None:
    """The once keys are looked up in an index; an index that disagrees with the entries is a break as well."""
    for (row,) in connection.execute("PRAGMA integrity_check(1)"):
        if row != "ok":
            found = re.match(r"row (\d+) ", row)
            return Break(int(found.group(1)) if found else 1, f"the database file is damaged: {row}")
    return None

"""Opening the SQLite file of a journal, and saying in a sentence what is wrong when SQLite refuses."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from fabric.journal.base import JournalBrokenError, JournalUnavailableError

APPLICATION_ID = 0x4661624A  # "FabJ": tells this file from any other SQLite database
FORMAT = 1

_SCHEMA = (
    """
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        at_us INTEGER NOT NULL,
        actor TEXT NOT NULL,
        kind TEXT NOT NULL,
        once TEXT UNIQUE,
        data TEXT NOT NULL,
        previous TEXT NOT NULL,
        hash TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER entries_are_never_changed BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only: an entry is never changed'); END
    """,
    """
    CREATE TRIGGER entries_are_never_removed BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only: an entry is never removed'); END
    """,
)


def connect(path: Path, busy_s: float, *, create: bool) -> sqlite3.Connection:
    """A connection for appending; the file, its directory and its schema are made where they are missing.

    A file that may only be read is opened for reading: appending to it then fails with a sentence.

    Raises:
        JournalUnavailableError: it cannot be opened, or is not a journal.
    """
    if not create and not path.exists():
        raise JournalUnavailableError(f"there is no journal at {path}; `fabric up` makes one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _open(path, busy_s, "rwc" if create else "rw")
    except OSError as error:
        raise JournalUnavailableError(
            f"journal {path}: its directory cannot be made ({error.strerror}); choose one this user may write"
        ) from error
    except sqlite3.Error as error:
        raise unavailable(error, path, busy_s) from error
    try:
        _prepare(connection, path, busy_s)
    except sqlite3.Error as error:
        connection.close()
        raise unavailable(error, path, busy_s) from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection that cannot write.

    Raises:
        JournalUnavailableError: the file cannot be opened.
    """
    try:
        return _open(path, busy_s, "ro")
    except sqlite3.Error as error:
        raise unavailable(error, path, busy_s) from error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the bytes of the file are not what it wrote, as against not reachable."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode" in str(error)


def unavailable(error: sqlite3.Error, path: Path, busy_s: float) -> JournalUnavailableError:
    """What SQLite's refusal means here and what to do about it."""
    if is_damage(error):
        return JournalBrokenError(
            f"journal {path} is damaged ({error}); `fabric journal verify` names the entry; "
            "stop the fabric and restore the file from a copy"
        )
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            remedy = (
                f"has been locked by another process for {busy_s:g} s; "
                f"`fuser {path}` shows which: let it finish or end it"
            )
        case sqlite3.SQLITE_FULL:
            remedy = "cannot grow: the disk is full; free some space, what was acknowledged is safe"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            remedy = "is read-only for this user; make the file and its directory writable, or run as their owner"
        case sqlite3.SQLITE_CANTOPEN:
            remedy = "cannot be opened; check that its directory exists and that this user may read and write it"
        case sqlite3.SQLITE_IOERR:
            remedy = "meets input/output errors; check the disk, its quota and the system log"
        case _:
            remedy = "was refused by SQLite; if this stays, report it with this sentence"
    return JournalUnavailableError(f"journal {path} {remedy} (SQLite: {error})")


def _open(path: Path, busy_s: float, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, busy_s: float) -> None:
    if not _is_journal(connection, path):
        _switch_to_wal(connection, busy_s)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not _is_journal(connection, path):
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        _sync_directory(path.parent)
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise JournalUnavailableError(
            f"journal {path} has no write-ahead log (mode {mode}); put it on a local disk, not a network share"
        )


def _is_journal(connection: sqlite3.Connection, path: Path) -> bool:
    """True for a journal, False for an empty file; anything else is refused."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if version != FORMAT:
            raise JournalUnavailableError(
                f"journal {path} has format {version}, this program writes {FORMAT}; use the version that made it"
            )
        return True
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application or tables:
        raise JournalUnavailableError(f"{path} is a database of another program, not a journal; choose another path")
    return False


def _switch_to_wal(connection: sqlite3.Connection, busy_s: float) -> None:
    """SQLite does not always wait for a lock when the journal mode changes, so several first starters retry."""
    deadline = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _sync_directory(directory: Path) -> None:
    """A new file survives a power cut only once the directory that names it is on disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _code(error: sqlite3.Error) -> int | None:
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF

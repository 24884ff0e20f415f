"""What the sandbox cloud remembers: instances, price history and scripted faults, in one SQLite file.

Written before anything is answered or done, so a server killed at any moment comes back with every instance and
the whole bill. One connection behind one lock: the server is one process and its statements are short.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoscaler.providers.base import InstanceState
from fabric.model.money import MicroUSD, Tariff
from fabric.model.nodes import Market

_SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    token TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    node_type TEXT NOT NULL,
    zone TEXT NOT NULL,
    market TEXT NOT NULL,
    tags TEXT NOT NULL,
    state TEXT NOT NULL,
    address TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    per_hour INTEGER NOT NULL,
    minimum_seconds INTEGER NOT NULL,
    launched_at_ms INTEGER NOT NULL,
    listed_at_ms INTEGER NOT NULL,
    boot_at_ms INTEGER,
    running_at_ms INTEGER,
    end_asked_at_ms INTEGER,
    ended_at_ms INTEGER,
    reclaim_at_ms INTEGER,
    pid INTEGER
);
CREATE INDEX IF NOT EXISTS instances_live ON instances (state) WHERE state != 'ended';
CREATE INDEX IF NOT EXISTS instances_owner ON instances (owner, seq);
CREATE TABLE IF NOT EXISTS prices (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    node_type TEXT NOT NULL,
    zone TEXT NOT NULL,
    market TEXT NOT NULL,
    per_hour INTEGER NOT NULL,
    cause TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS faults (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at_ms INTEGER NOT NULL,
    remaining INTEGER,
    fault TEXT NOT NULL
);
"""

LIVE = (InstanceState.PENDING, InstanceState.RUNNING, InstanceState.ENDING)


@dataclass(frozen=True, slots=True)
class Record:
    """One instance as stored; times are Unix milliseconds, None while they have not come.

    Attributes:
        seq: order of launch; what listing pages are cut by.
        tariff: the price at launch, kept for the instance's life.
        listed_at_ms: from when listings show it (later than its launch under scripted eventual consistency).
        boot_at_ms: when its user data is to be started; None: never.
        end_asked_at_ms: when its end was first asked for.
        reclaim_at_ms: when the cloud takes it back; a notice stands from the moment this is set.
        pid: its machine process, for people who look at ``ps``.
    """

    seq: int
    id: str
    token: str
    owner: str
    node_type: str
    zone: str
    market: Market
    state: InstanceState
    tariff: Tariff
    launched_at_ms: int
    listed_at_ms: int
    boot_at_ms: int | None
    tags: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    reason: str = ""
    running_at_ms: int | None = None
    end_asked_at_ms: int | None = None
    ended_at_ms: int | None = None
    reclaim_at_ms: int | None = None
    pid: int | None = None

    @property
    def offer_id(self) -> str:
        """The offer it was bought as."""
        return f"{self.node_type}/{self.zone}/{self.market}"


@dataclass(frozen=True, slots=True)
class StoredFault:
    """One scripted fault: its number, how many times it still strikes (None: until cleared), and its text."""

    seq: int
    created_at_ms: int
    remaining: int | None
    fault: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PriceChange:
    """From ``at_ms`` on, this is what a new instance of the offer costs."""

    at_ms: int
    node_type: str
    zone: str
    market: Market
    per_hour: MicroUSD
    cause: str


class Store:
    """The SQLite file; every method is atomic and durable when it returns."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside happen together, and no other thread's between them."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def insert(self, new: Mapping[str, Any]) -> Record:
        """Add an instance; keys are columns, ``tags`` a mapping."""
        row = {**new, "tags": json.dumps(dict(new["tags"]), sort_keys=True)}
        columns, marks = ", ".join(row), ", ".join("?" for _ in row)
        self._run(f"INSERT INTO instances ({columns}) VALUES ({marks})", *row.values())  # noqa: S608
        return self.must_have(row["id"])

    def update(self, instance_id: str, states: Collection[InstanceState] = LIVE, **changes: Any) -> bool:
        """Change columns of an instance that is in one of ``states``; whether it was, and is changed."""
        columns = ", ".join(f"{name} = ?" for name in changes)
        marks = ", ".join("?" for _ in states)
        sql = f"UPDATE instances SET {columns} WHERE id = ? AND state IN ({marks})"  # noqa: S608
        return self._run(sql, *changes.values(), instance_id, *states).rowcount == 1

    def by_token(self, token: str) -> Record | None:
        """The instance this token made."""
        return self._one("SELECT * FROM instances WHERE token = ?", token)

    def find(self, id_or_token: str) -> Record | None:
        """The instance with this id or this token."""
        return self._one("SELECT * FROM instances WHERE id = ? OR token = ?", id_or_token, id_or_token)

    def must_have(self, instance_id: str) -> Record:
        """The instance with this id.

        Raises:
            KeyError: there is none.
        """
        record = self.find(instance_id)
        if record is None:
            raise KeyError(instance_id)
        return record

    def live(self) -> list[Record]:
        """Every instance that has not ended, in order of launch."""
        return self._many("SELECT * FROM instances WHERE state != 'ended' ORDER BY seq")

    def all(self, owner: str | None = None) -> list[Record]:
        """Every instance there ever was, or every one of ``owner``."""
        if owner is None:
            return self._many("SELECT * FROM instances ORDER BY seq")
        return self._many("SELECT * FROM instances WHERE owner = ? ORDER BY seq", owner)

    def page(self, owner: str | None, after: int, limit: int, now_ms: int, ended_since_ms: int) -> list[Record]:
        """Up to ``limit`` listable instances launched after number ``after``."""
        return self._many(
            "SELECT * FROM instances WHERE seq > ? AND (? IS NULL OR owner = ?) AND listed_at_ms <= ?"
            " AND (ended_at_ms IS NULL OR ended_at_ms >= ?) ORDER BY seq LIMIT ?",
            after, owner, owner, now_ms, ended_since_ms, limit,
        )  # fmt: skip

    def add_price(self, change: PriceChange) -> None:
        """Append to the price history."""
        self._run(
            "INSERT INTO prices (at_ms, node_type, zone, market, per_hour, cause) VALUES (?, ?, ?, ?, ?, ?)",
            change.at_ms, change.node_type, change.zone, change.market, change.per_hour, change.cause,
        )  # fmt: skip

    def prices(self) -> list[PriceChange]:
        """The price history, oldest first."""
        rows = self._rows("SELECT at_ms, node_type, zone, market, per_hour, cause FROM prices ORDER BY seq")
        return [PriceChange(**{**dict(row), "market": Market(row["market"])}) for row in rows]

    def add_fault(self, fault: Mapping[str, Any], remaining: int | None, now_ms: int) -> int:
        """Script a fault; its number."""
        cursor = self._run(
            "INSERT INTO faults (created_at_ms, remaining, fault) VALUES (?, ?, ?)",
            now_ms, remaining, json.dumps(fault),
        )  # fmt: skip
        return cursor.lastrowid or 0

    def faults(self) -> list[StoredFault]:
        """Every scripted fault that may still strike, oldest first."""
        return [
            StoredFault(row["seq"], row["created_at_ms"], row["remaining"], json.loads(row["fault"]))
            for row in self._rows("SELECT * FROM faults ORDER BY seq")
        ]

    def use_fault(self, seq: int) -> None:
        """Count one strike; a fault that has none left is gone."""
        with self.transaction():
            self._run("UPDATE faults SET remaining = remaining - 1 WHERE seq = ?", seq)
            self._run("DELETE FROM faults WHERE seq = ? AND remaining <= 0", seq)

    def clear_faults(self, seq: int | None = None) -> int:
        """Remove one fault, or all; how many were removed."""
        return self._run("DELETE FROM faults WHERE ? IS NULL OR seq = ?", seq, seq).rowcount

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        with self._lock:
            return self._db.execute(sql, values)

    def _rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _many(self, sql: str, *values: Any) -> list[Record]:
        return [_record(row) for row in self._rows(sql, *values)]

    def _one(self, sql: str, *values: Any) -> Record | None:
        rows = self._many(sql, *values)
        return rows[0] if rows else None


def _record(row: sqlite3.Row) -> Record:
    columns = dict(row)
    tariff = Tariff(columns.pop("per_hour"), columns.pop("minimum_seconds"))
    columns["market"] = Market(columns["market"])
    columns["state"] = InstanceState(columns["state"])
    columns["tags"] = json.loads(columns["tags"])
    return Record(tariff=tariff, **columns)

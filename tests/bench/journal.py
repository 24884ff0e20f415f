"""Durable appends per second: the journal, and plain sqlite3 committing the same rows one by one, side by side.

    python tests/bench/journal.py [--quick] [--json FILE]

Both write to the same disk with a write-ahead log and ``synchronous = FULL``; the peer keeps no chain, no once
keys and no order between writers. Each case runs several times in turn with its peer, and the median counts.
How much sharing a commit gains depends on how long this disk takes to sync; that time is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal

DATA = {"token": "fab-0123456789abcdef0123", "until": 1_700_000_000.5}
Append = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """One way of writing: entries per second, and against writing them one by one."""

    name: str
    journal_per_s: float
    sqlite_per_s: float
    journal_gain: float
    sqlite_gain: float


def main() -> int:
    """Run every case and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer entries, one round")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - is standard output")
    parser.add_argument("--worker", nargs=4, metavar=("KIND", "PATH", "COUNT", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return _worker(*arguments.worker)
    scale, rounds = (1, 1) if arguments.quick else (2, 3)
    cases = {
        "one by one": (1, 1, 250 * scale),
        "8 threads": (1, 8, 100 * scale),
        "32 threads": (1, 32, 50 * scale),
        "4 processes": (4, 1, 100 * scale),
        "4 processes, 8 threads each": (4, 8, 25 * scale),
    }
    with tempfile.TemporaryDirectory(prefix="journal-bench-", dir=Path.cwd()) as folder:
        sync_ms = _sync_ms(Path(folder))
        speeds = {
            name: {
                kind: statistics.median(_measure(kind, Path(folder), *case) for _ in range(rounds))
                for kind in ("journal", "sqlite")
            }
            for name, case in cases.items()
        }
    alone = speeds["one by one"]
    results = [
        Result(
            name,
            journal_per_s=round(found["journal"], 1),
            sqlite_per_s=round(found["sqlite"], 1),
            journal_gain=round(found["journal"] / alone["journal"], 2),
            sqlite_gain=round(found["sqlite"] / alone["sqlite"], 2),
        )
        for name, found in speeds.items()
    ]
    told = {"sync_ms": round(sync_ms, 3), "cpus": os.cpu_count(), "results": [asdict(result) for result in results]}
    if arguments.json == "-":
        print(json.dumps(told))
        return 0
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(told, indent=2) + "\n")
    _print(results, sync_ms)
    return 0


def _measure(kind: str, folder: Path, processes: int, threads: int, count: int) -> float:
    """Entries per second, all writers together; from the moment all are ready until the last is done."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        path = Path(fresh) / "journal.db"
        if kind == "journal":
            SqliteJournal(path, "bench").close()
        else:
            _plain(path).close()
        command = [sys.executable, __file__, "--worker", kind, str(path), str(count), str(threads)]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        begin = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "done\n"
        elapsed = time.perf_counter() - begin
        for worker in workers:
            worker.communicate()
        total = processes * threads * count
        if kind == "journal":
            with closing(SqliteJournal(path, "bench")) as journal:
                assert journal.last_seq() == total
                assert journal.verify() is None
        return total / elapsed


def _worker(kind: str, path: str, count: str, threads: str) -> int:
    journal = SqliteJournal(path, "bench", busy_s=120) if kind == "journal" else None

    def work() -> None:
        append = _journal_append(journal) if journal is not None else _sqlite_append(Path(path))
        ready.wait()
        start.wait()
        for _ in range(int(count)):
            append()

    ready, start = threading.Barrier(int(threads) + 1), threading.Event()
    pool = [threading.Thread(target=work) for _ in range(int(threads))]
    for thread in pool:
        thread.start()
    ready.wait()
    print("ready", flush=True)
    sys.stdin.readline()
    start.set()
    for thread in pool:
        thread.join()
    print("done", flush=True)
    return 0


def _journal_append(journal: SqliteJournal) -> Append:
    draft = Draft("lease.renewed", DATA)
    return lambda: journal.append([draft])


def _sqlite_append(path: Path) -> Append:
    connection, data = _plain(path), json.dumps(DATA)
    insert = "INSERT INTO entries (at_us, actor, kind, data) VALUES (?, ?, ?, ?)"
    return lambda: connection.execute(insert, (time.time_ns() // 1000, "bench", "lease.renewed", data))


def _plain(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=120, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS entries "
        "(seq INTEGER PRIMARY KEY, at_us INTEGER, actor TEXT, kind TEXT, data TEXT) STRICT"
    )
    return connection


def _sync_ms(folder: Path) -> float:
    """How long this disk takes to bring a page to rest, milliseconds, median."""
    times: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(100):
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def _print(results: list[Result], sync_ms: float) -> None:
    table = Table(
        title=f"Durable appends per second ({os.cpu_count()} CPUs, a sync takes {sync_ms:.2f} ms)",
        caption="gain: against the same writer one by one",
    )
    for column in ("writers", "journal /s", "gain", "sqlite3 /s", "gain", "journal / sqlite3"):
        table.add_column(column, justify="left" if column == "writers" else "right")
    for result in results:
        table.add_row(
            result.name,
            f"{result.journal_per_s:,.0f}",
            f"{result.journal_gain:.1f}x",
            f"{result.sqlite_per_s:,.0f}",
            f"{result.sqlite_gain:.1f}x",
            f"{result.journal_per_s / result.sqlite_per_s:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())

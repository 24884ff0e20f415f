"""A process that appends is killed at any moment: what it acknowledged is there, and the chain is whole."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from fabric.journal.base import AlreadyAppendedError, Draft
from fabric.journal.sqlite import SqliteJournal

ROOT = Path(__file__).resolve().parents[2]

# Appends batches from several threads and prints the last position of each as soon as it is acknowledged. With a
# number as its second argument it kills itself just before SQLite carries out that statement; with 0 it never does.
CHILD = textwrap.dedent(
    """
    import itertools, os, signal, sqlite3, sys, threading
    path, victim, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    statements = itertools.count(1)
    connect = sqlite3.connect

    def die_at(sql):
        if next(statements) == victim:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(die_at)
        return connection

    sqlite3.connect = traced
    from fabric.journal.base import AlreadyAppendedError, Draft
    from fabric.journal.sqlite import SqliteJournal
    journal = SqliteJournal(path, f"child-{os.getpid()}")
    begin = journal.last_seq()

    def work(worker):
        for turn in itertools.count():
            drafts = [Draft("test.made", {"worker": worker, "turn": turn, "n": n}) for n in range(3)]
            drafts.append(Draft("test.once", {"turn": turn}, once=f"key:{begin}:{worker}:{turn}"))
            entries = journal.append(drafts)
            os.write(1, f"{entries[-1].seq} {entries[-1].hash}\\n".encode())

    for worker in range(threads):
        threading.Thread(target=work, args=[worker]).start()
    """
)


def spawn(path: Path, victim: int, threads: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(victim), str(threads)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def check(path: Path, acknowledged: list[str]) -> int:
    """The chain is whole and without gaps, every acknowledged entry is there, every batch is whole; its length."""
    with closing(SqliteJournal(path, "checker")) as journal:
        assert journal.verify() is None
        entries = list(journal.read())
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        for line in acknowledged:
            seq, digest = line.split()
            assert entries[int(seq) - 1].hash == digest
        children = [entry for entry in entries if entry.actor.startswith("child-")]
        for first in range(0, len(children), 4):
            batch = children[first : first + 4]
            assert [entry.kind for entry in batch] == ["test.made"] * 3 + ["test.once"]
            assert len({(entry.actor, entry.data["turn"]) for entry in batch}) == 1
        after = journal.append([Draft("test.after", {})])[0].seq
        assert after == len(entries) + 1
        return len(entries)


def test_killed_before_any_statement_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    # Statement by statement through opening, making the schema, and the first batches.
    path = tmp_path / "journal.db"
    lengths = []
    for victim in range(1, 41):
        fresh = tmp_path / f"fresh-{victim}.db"
        with spawn(fresh, victim, 1) as new, spawn(path, victim, 1) as old:
            assert new.stdout is not None
            assert old.stdout is not None
            told_new, told_old = new.stdout.read().splitlines(), old.stdout.read().splitlines()
        assert (new.returncode, old.returncode) == (-9, -9)
        check(fresh, told_new)
        lengths.append(check(path, told_old))
    assert lengths == sorted(lengths)
    assert lengths[-1] > 40 * 4  # late victims let batches through, so the kills fell into real work


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_a_random_moment_nothing_acknowledged_is_lost(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    path = tmp_path / "journal.db"
    grown = 0
    for _ in range(2):
        with spawn(path, 0, chooser.choice([1, 4, 8])) as child:
            assert child.stdout is not None
            told = [child.stdout.readline().strip() for _ in range(chooser.randrange(1, 60))]
            time.sleep(chooser.random() * 0.01)
            child.kill()
            told += child.stdout.read().splitlines()
        if told and len(told[-1].split()) < 2:
            told.pop()
        length = check(path, told)
        assert length > grown
        grown = length


def test_processes_and_threads_together_lose_nothing_and_keep_every_key_single(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys, threading
        from fabric.journal.base import AlreadyAppendedError, Draft
        from fabric.journal.sqlite import SqliteJournal
        journal = SqliteJournal(sys.argv[1], sys.argv[2], busy_s=60)
        sys.stdin.readline()
        wins = []

        def work(worker):
            for turn in range(25):
                journal.append([Draft("test.made", {"worker": worker, "turn": turn})])
                try:
                    journal.append([Draft("test.once", {"turn": turn}, once=f"key:{turn}")])
                    wins.append(turn)
                except AlreadyAppendedError as taken:
                    assert taken.entry.data["turn"] == turn

        threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(*wins)
        """
    )
    path = tmp_path / "journal.db"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), f"p{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for number in range(4)
    ]  # fmt: skip
    won: Counter[str] = Counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        out, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        won.update(out.split())
    assert won == Counter(str(turn) for turn in range(25))
    with closing(SqliteJournal(path, "checker")) as journal:
        assert journal.verify() is None
        entries = list(journal.read())
        made = {
            (entry.actor, entry.data["worker"], entry.data["turn"]) for entry in entries if entry.kind == "test.made"
        }
        assert len(made) == 4 * 6 * 25
        assert len(entries) == 4 * 6 * 25 + 25
        with pytest.raises(AlreadyAppendedError):
            journal.append([Draft("test.once", {}, once="key:7")])

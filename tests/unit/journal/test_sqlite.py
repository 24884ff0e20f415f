"""The SQLite store: what is particular to a file."""

from __future__ import annotations

import random
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fabric.journal.base import Draft, Head, JournalBrokenError, JournalUnavailableError
from fabric.journal.chain import Stored
from fabric.journal.sqlite import SqliteJournal
from fabric.journal.stores import open_journal


def make(path: Path, entries: int = 4) -> SqliteJournal:
    journal = SqliteJournal(path, "tester", lambda: 1_700_000_000.25)
    for number in range(1, entries + 1):
        journal.append([Draft("test.made", {"mark": f"entry-{number:02d}", "n": number}, once=f"number:{number}")])
    return journal


def run(script: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload]


def test_the_file_and_its_directory_are_made(tmp_path: Path) -> None:
    with closing(SqliteJournal(tmp_path / "a" / "b" / "journal.db", "tester")) as journal:
        journal.append([Draft("test.made", {})])
    with closing(sqlite3.connect(tmp_path / "a" / "b" / "journal.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_every_connection_syncs_each_commit(tmp_path: Path) -> None:
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*arguments: object, **options: object) -> sqlite3.Connection:
        made.append(connect(*arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", remember)
        journal = make(tmp_path / "journal.db")
    with closing(journal):
        assert [link.execute("PRAGMA synchronous").fetchone()[0] for link in made] == [2, 2]


def test_update_and_delete_are_refused_by_the_file_itself(tmp_path: Path) -> None:
    make(tmp_path / "journal.db").close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            connection.execute("UPDATE entries SET actor = 'x' WHERE seq = 1")
        with pytest.raises(sqlite3.IntegrityError, match="never removed"):
            connection.execute("DELETE FROM entries WHERE seq = 4")


def test_a_flipped_bit_in_any_byte_of_an_entry_names_that_entry(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make(path).close()
    good = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT seq, at_us, actor, kind, once, data, previous, hash FROM entries").fetchall()
    chooser = random.Random(7)
    unnoticed = []
    for row in rows:
        item = Stored(*row)
        text = f"{item.actor}{item.kind}{item.once}{item.data}{item.previous}{item.hash}".encode()
        # Before the text stand the record's header, its number and its time (8 bytes).
        begin, end = good.index(text) - 8 - 10, good.index(text) + len(text)
        assert good.count(text) == 1
        for position in range(begin, end):
            bad = bytearray(good)
            bad[position] ^= 1 << chooser.randrange(8)
            path.write_bytes(bad)
            with closing(SqliteJournal(path, "auditor", create=False)) as journal:
                found = journal.verify()
            if found is None or found.seq != item.seq:
                unnoticed.append((item.seq, position - begin, found))
    assert unnoticed == []


def test_a_damaged_index_of_once_keys_is_found(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make(path).close()
    content = path.read_bytes()
    first = content.index(b"number:3")
    in_index = content.find(b"number:3", first + 1)
    places = [place for place in (first, in_index) if content[place + 8 : place + 9] != b"{"]
    bad = bytearray(content)
    bad[places[0] + 7] = ord("7")
    path.write_bytes(bad)
    with closing(SqliteJournal(path, "auditor")) as journal:
        found = journal.verify()
    assert found is not None
    assert found.seq == 3
    assert "index" in found.problem


def test_reading_a_damaged_entry_says_to_verify(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make(path).close()
    path.write_bytes(path.read_bytes().replace(b'{"mark":"entry-02"', b'["mark":"entry-02"'))
    with closing(SqliteJournal(path, "auditor")) as journal:
        entries = journal.read()
        assert next(entries).seq == 1
        with pytest.raises(JournalBrokenError, match=r"entry 2 .*fabric journal verify"):
            next(entries)
    path.write_bytes(path.read_bytes().replace(b'["mark":"entry-02"', b'["mark":"\xff\xfe\xfdry-02"'))
    with closing(SqliteJournal(path, "auditor")) as journal:
        with pytest.raises(JournalBrokenError, match="is damaged"):
            list(journal.read())
        found = journal.verify()
        assert found is not None
        assert found.seq == 2


def test_another_process_holding_the_lock_is_waited_for_then_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make(path).close()
    with (
        closing(SqliteJournal(path, "tester", busy_s=0.2)) as journal,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailableError, match=r"locked by another process for 0\.2 s.*fuser"):
            journal.append([Draft("test.made", {})])
        assert journal.last_seq() == 4  # reading goes on
        other.execute("ROLLBACK")
        assert journal.append([Draft("test.made", {})])[0].seq == 5
    with (
        closing(SqliteJournal(path, "tester", busy_s=20)) as journal,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        release.start()
        assert journal.append([Draft("test.made", {})])[0].seq == 6
        release.join()


def test_a_full_disk_is_said_and_nothing_of_the_batch_is_there(tmp_path: Path) -> None:
    done = run(
        """
        import sqlite3, sys
        connect = sqlite3.connect
        def small(*arguments, **options):
            connection = connect(*arguments, **options)
            connection.execute("PRAGMA max_page_count = 40")
            return connection
        sqlite3.connect = small
        from fabric.journal.base import Draft, JournalUnavailableError
        from fabric.journal.sqlite import SqliteJournal
        journal = SqliteJournal(sys.argv[1], "tester")
        try:
            while True:
                journal.append([Draft("test.made", {"text": "x" * 5000}), Draft("test.made", {})])
        except JournalUnavailableError as error:
            print(journal.last_seq(), journal.verify(), error)
        journal.append([Draft("test.small", {})])
        """,
        tmp_path / "journal.db",
    )
    last, _, sentence = done.stdout.partition(" None ")
    assert "the disk is full; free some space" in sentence, done.stderr
    assert int(last) > 2
    assert int(last) % 2 == 0


def test_a_disk_quota_is_said_and_what_was_acknowledged_is_safe(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = run(
        """
        import signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        from fabric.journal.base import Draft, JournalUnavailableError
        from fabric.journal.sqlite import SqliteJournal
        journal = SqliteJournal(sys.argv[1], "tester")
        seq = 0
        try:
            while True:
                seq = journal.append([Draft("test.made", {"text": "x" * 5000})])[-1].seq
        except JournalUnavailableError as error:
            print(seq, error)
        """,
        tmp_path / "journal.db",
        preexec_fn=limit,
    )
    seq, _, sentence = done.stdout.partition(" ")
    assert "input/output errors; check the disk, its quota" in sentence, done.stderr
    with closing(SqliteJournal(tmp_path / "journal.db", "tester")) as journal:
        assert journal.verify() is None
        assert journal.last_seq() == int(seq) > 5


def test_a_file_one_may_only_read_can_be_read_and_verified_and_says_why_it_cannot_grow(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IXGRP)
    path = tmp_path / "journal.db"
    with closing(make(path)):
        path.chmod(0o444)
        (tmp_path / "journal.db-wal").chmod(0o444)
        (tmp_path / "journal.db-shm").chmod(0o444)
        done = run(
            """
            import os, sys
            from fabric.journal.base import Draft, JournalUnavailableError
            from fabric.journal.sqlite import SqliteJournal
            if os.getuid() == 0:
                os.setgroups([]); os.setgid(65534); os.setuid(65534)
            journal = SqliteJournal(sys.argv[1], "auditor", create=False)
            print(len(list(journal.read())), journal.verify())
            try:
                journal.append([Draft("test.made", {})])
            except JournalUnavailableError as error:
                print(error)
            """,
            path,
        )
    assert done.stdout.splitlines()[:1] == ["4 None"], done.stderr
    assert "is read-only for this user; make the file and its directory writable" in done.stdout


def test_a_path_that_is_no_journal_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailableError, match="there is no journal at"):
        SqliteJournal(tmp_path / "none.db", "tester", create=False)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("not a database, but long enough to be read as one\n" * 100)
    with pytest.raises(JournalUnavailableError, match="damaged"):
        SqliteJournal(tmp_path / "text.db", "tester")
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE things (x)")
    with pytest.raises(JournalUnavailableError, match="database of another program"):
        SqliteJournal(tmp_path / "other.db", "tester")
    make(tmp_path / "newer.db").close()
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.execute("PRAGMA user_version = 2")
    with pytest.raises(JournalUnavailableError, match="has format 2, this program writes 1"):
        SqliteJournal(tmp_path / "newer.db", "tester")
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnavailableError, match="its directory cannot be made"):
        SqliteJournal(tmp_path / "file" / "journal.db", "tester")
    with pytest.raises(JournalUnavailableError, match="cannot be opened"):
        SqliteJournal(tmp_path, "tester")


def test_many_processes_may_make_the_journal_at_the_same_moment(tmp_path: Path) -> None:
    script = """
        import sys
        from fabric.journal.base import Draft
        from fabric.journal.sqlite import SqliteJournal
        sys.stdin.readline()
        SqliteJournal(sys.argv[1], sys.argv[2]).append([Draft("test.made", {})])
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "journal.db"), f"p{number}"],
            stdin=subprocess.PIPE,
        )
        for number in range(6)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.close()
    assert [child.wait(60) for child in children] == [0] * 6
    with closing(SqliteJournal(tmp_path / "journal.db", "tester")) as journal:
        assert sorted(entry.actor for entry in journal.read()) == [f"p{number}" for number in range(6)]
        assert journal.verify() is None


def test_a_clock_that_fails_leaves_the_journal_usable(tmp_path: Path) -> None:
    broken = True

    def clock() -> float:
        if broken:
            raise OSError("no clock")
        return 1.0

    with closing(SqliteJournal(tmp_path / "journal.db", "tester", clock)) as journal:
        with pytest.raises(OSError, match="no clock"):
            journal.append([Draft("test.made", {})])
        broken = False
        assert journal.append([Draft("test.made", {})])[0].seq == 1


def test_an_interrupted_append_holds_up_nobody_else(tmp_path: Path) -> None:
    class Interrupt(BaseException):
        pass

    entered, leave = threading.Event(), threading.Event()
    calls = iter(range(100))

    def clock() -> float:
        if next(calls) == 0:
            entered.set()
            leave.wait(20)
            raise Interrupt
        return 1.0

    with closing(SqliteJournal(tmp_path / "journal.db", "tester", clock)) as journal:
        outcomes: list[str] = []

        def lead() -> None:
            try:
                journal.append([Draft("test.first", {})])
            except Interrupt:
                outcomes.append("interrupted")

        def follow() -> None:
            outcomes.append(f"appended {journal.append([Draft('test.second', {})])[0].seq}")

        leader, follower = threading.Thread(target=lead), threading.Thread(target=follow)
        leader.start()
        entered.wait(20)
        follower.start()
        leave.set()
        leader.join(20)
        follower.join(20)
        assert sorted(outcomes) == ["appended 1", "interrupted"]
        assert journal.verify() is None


def test_an_actor_must_be_printable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="actor"):
        SqliteJournal(tmp_path / "journal.db", "")


def test_a_url_names_the_store_and_relative_paths_start_at_the_configuration(tmp_path: Path) -> None:
    with closing(open_journal("sqlite:state/journal.db", "tester", tmp_path)) as journal:
        assert journal.head() == Head(0, "0" * 64)
    assert (tmp_path / "state" / "journal.db").exists()
    with closing(open_journal(f"sqlite:{tmp_path}/state/journal.db", "tester", "/nowhere", create=False)) as journal:
        assert journal.verify() is None
    for url in ("journal.db", "mysql:journal.db", "sqlite:", ""):
        with pytest.raises(ValueError, match="write sqlite:PATH"):
            open_journal(url, "tester", tmp_path)


def test_a_path_with_odd_characters_is_only_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=ro#%41" / "journal.db"
    with closing(make(path)) as journal:
        assert journal.verify() is None
    assert path.exists()

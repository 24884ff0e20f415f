"""What every journal store must do, whatever it is made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fabric.journal.base import (
    GENESIS,
    AlreadyAppendedError,
    Break,
    Draft,
    Head,
    JournalUnavailableError,
)
from fabric.journal.chain import digest, stored
from tests.contract.journal_stores import STORES, Store


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = STORES[request.param](tmp_path)
    yield store
    store.close()


def five(store: Store) -> None:
    journal = store.open()
    for number in range(1, 6):
        journal.append([Draft("test.made", {"number": number, "text": "Grüße"}, once=f"number:{number}")])


def test_an_empty_journal_has_no_entries_and_verifies(store: Store) -> None:
    journal = store.open()
    assert list(journal.read()) == []
    assert journal.last_seq() == 0
    assert journal.head() == Head(0, GENESIS)
    assert journal.verify() is None


def test_what_is_appended_is_what_is_read_also_by_another_process(store: Store) -> None:
    writer, reader = store.open("writer", lambda: 1234.5678915), store.open("reader")
    data = {"text": "é\n\x00\ud800😀", "list": [1, 2.5, None, True, {"deep": {}}], "big": 2**80, "": ""}
    appended = writer.append([Draft("test.made", data, once="only"), Draft("test.made", {})])
    assert [entry.seq for entry in appended] == [1, 2]
    assert appended[0].data == {**data, "text": "é\n\x00\ud800😀"}
    assert (appended[0].at, appended[0].actor, appended[0].kind) == (1234.567892, "writer", "test.made")
    assert (appended[0].once, appended[1].once) == ("only", None)
    assert appended[0].previous == GENESIS
    assert appended[1].previous == appended[0].hash
    assert list(reader.read()) == appended
    assert reader.head() == Head(2, appended[1].hash)


def test_the_hash_of_an_entry_is_the_digest_of_its_canonical_form(store: Store) -> None:
    (entry,) = store.open("a", lambda: 1.5).append([Draft("k", {"b": 1, "a": 0.1}, once="o")])
    body = (
        f'{{"actor":"a","at_us":1500000,"data":{{"a":0.1,"b":1}},"kind":"k","once":"o","previous":"{GENESIS}","seq":1}}'
    )
    assert stored(entry).body() == body
    assert entry.hash == digest(body)


def test_reading_starts_after_a_position_and_stops_at_a_limit(store: Store) -> None:
    journal = store.open()
    journal.append([Draft("test.made", {"number": number}) for number in range(1, 1203)])
    assert [entry.seq for entry in journal.read(after=1199)] == [1200, 1201, 1202]
    assert [entry.seq for entry in journal.read(after=3, limit=2)] == [4, 5]
    assert [entry.seq for entry in journal.read(limit=0)] == []
    assert [entry.data["number"] for entry in journal.read()] == list(range(1, 1203))
    assert len(list(journal.read(limit=1001))) == 1001
    assert list(journal.read(after=1202)) == []


def test_appending_while_reading_disturbs_neither(store: Store) -> None:
    five(store)
    reader, writer = store.open(), store.open()
    entries = reader.read()
    seen = [next(entries).seq]
    writer.append([Draft("test.made", {"number": number}) for number in range(1000)])
    assert writer.last_seq() == 1005
    seen += [entry.seq for entry in entries]
    assert seen == list(range(1, len(seen) + 1))
    assert [entry.seq for entry in reader.read(after=len(seen))] == list(range(len(seen) + 1, 1006))


def test_a_once_key_is_appended_one_time_and_the_refusal_shows_what_took_it(store: Store) -> None:
    first, second = store.open("first"), store.open("second")
    (entry,) = first.append([Draft("test.joined", {"node": 1}, once="ticket:1")])
    with pytest.raises(AlreadyAppendedError, match="ticket:1 is already in the journal as entry 1") as refusal:
        second.append([Draft("test.joined", {"node": 2}, once="ticket:1")])
    assert refusal.value.once == "ticket:1"
    assert refusal.value.entry == entry
    assert second.last_seq() == 1


def test_a_batch_is_appended_whole_or_not_at_all(store: Store) -> None:
    journal = store.open()
    journal.append([Draft("test.made", {}, once="taken")])
    with pytest.raises(AlreadyAppendedError):
        journal.append([Draft("test.made", {}, once="free"), Draft("test.made", {}, once="taken")])
    assert journal.last_seq() == 1
    journal.append([Draft("test.made", {}, once="free")])
    assert journal.verify() is None


def test_an_empty_batch_appends_nothing(store: Store) -> None:
    journal = store.open()
    assert journal.append([]) == []
    assert journal.last_seq() == 0


@pytest.mark.parametrize(
    "draft",
    [
        Draft("test.made", {"x": float("nan")}),
        Draft("test.made", {"x": float("inf")}),
        Draft("test.made", {"x": {1: "one"}}),
        Draft("test.made", {"x": object()}),
        Draft("test.made", {"x": b"bytes"}),
        Draft("test.made", [1]),  # pyright: ignore[reportArgumentType]
        Draft("", {}),
        Draft("two\nlines", {}),
        Draft("test.made", {}, once=""),
        Draft("test.made", {}, once="a\x00b"),
    ],
)
def test_what_would_not_read_back_the_same_is_refused_before_anything_is_written(store: Store, draft: Draft) -> None:
    journal = store.open()
    with pytest.raises(ValueError, match="journal"):
        journal.append([Draft("test.made", {}), draft])
    assert journal.last_seq() == 0


def test_a_once_key_twice_in_one_batch_is_a_mistake_of_the_caller(store: Store) -> None:
    journal = store.open()
    with pytest.raises(ValueError, match="twice"):
        journal.append([Draft("test.made", {}, once="x"), Draft("test.made", {}, once="x")])
    assert journal.last_seq() == 0


def test_a_closed_journal_says_so(store: Store) -> None:
    journal = store.open()
    journal.close()
    journal.close()
    with pytest.raises(JournalUnavailableError, match="closed"):
        journal.append([Draft("test.made", {})])
    with pytest.raises(JournalUnavailableError, match="closed"):
        journal.last_seq()


def test_threads_append_each_entry_once_and_each_gets_its_own_back(store: Store) -> None:
    journal = store.open()

    def work(worker: int) -> list[int]:
        mine = []
        for turn in range(20):
            (entry,) = journal.append([Draft("test.made", {"worker": worker, "turn": turn})])
            assert (entry.data["worker"], entry.data["turn"]) == (worker, turn)
            mine.append(entry.seq)
        return mine

    with ThreadPoolExecutor(16) as pool:
        seqs = [seq for mine in pool.map(work, range(16)) for seq in mine]
    assert sorted(seqs) == list(range(1, 321))
    for entry in journal.read():
        assert seqs[entry.data["worker"] * 20 + entry.data["turn"]] == entry.seq
    assert journal.verify() is None


def test_of_many_threads_that_want_one_key_one_gets_it_and_the_others_keep_their_own_work(store: Store) -> None:
    journal = store.open()
    start = threading.Barrier(12)

    def work(worker: int) -> bool:
        start.wait()
        journal.append([Draft("test.own", {"worker": worker})])
        try:
            journal.append([Draft("test.won", {"worker": worker}, once="prize")])
        except AlreadyAppendedError as taken:
            assert taken.entry.kind == "test.won"
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(work, range(12)))
    entries = list(journal.read())
    assert sum(won) == 1
    assert [entry.data["worker"] for entry in entries if entry.kind == "test.won"] == [won.index(True)]
    assert {entry.data["worker"] for entry in entries if entry.kind == "test.own"} == set(range(12))


def test_an_untouched_journal_verifies_against_every_head_it_ever_had(store: Store) -> None:
    journal = store.open()
    heads = [journal.head()]
    for _ in range(4):
        journal.append([Draft("test.made", {})])
        heads.append(journal.head())
    assert [journal.verify(expected_head=head) for head in heads] == [None] * 5


@pytest.mark.parametrize("seq", [1, 3, 5])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at_us", 1),
        ("actor", "somebody"),
        ("kind", "test.other"),
        ("once", "number:9"),
        ("once", None),
        ("data", '{"number":9,"text":"Gr\\u00fc\\u00dfe"}'),
        ("data", '{"number":1'),
        ("data", "[]"),
        ("data", ""),
        ("previous", "f" * 64),
        ("hash", "f" * 64),
        ("hash", ""),
    ],
)
def test_a_changed_entry_is_named(store: Store, seq: int, column: str, value: object) -> None:
    five(store)
    store.tamper(f"UPDATE entries SET {column} = ? WHERE seq = {seq}", values=[(value,)])
    found = store.open().verify()
    assert found is not None
    assert found.seq == seq


@pytest.mark.parametrize("seq", [1, 3, 4])
def test_a_removed_entry_is_named(store: Store, seq: int) -> None:
    five(store)
    store.tamper(f"DELETE FROM entries WHERE seq = {seq}")
    assert store.open().verify() == Break(seq, f"missing: entry {seq - 1} is followed by entry {seq + 1}")


def test_entries_that_changed_places_are_named(store: Store) -> None:
    five(store)
    swap = [f"UPDATE entries SET seq = {to} WHERE seq = {of}" for of, to in ((2, 99), (4, 2), (99, 4))]
    store.tamper(*swap)
    found = store.open().verify()
    assert found is not None
    assert found.seq == 2


def test_an_inserted_entry_is_named(store: Store) -> None:
    five(store)
    store.tamper(
        "UPDATE entries SET seq = 6 WHERE seq = 5",
        "INSERT INTO entries SELECT 5, at_us, actor, kind, NULL, data, previous, hash FROM entries WHERE seq = 4",
    )
    found = store.open().verify()
    assert found is not None
    assert found.seq == 5


def test_entries_cut_off_at_the_end_show_only_against_a_noted_head(store: Store) -> None:
    five(store)
    noted = store.open().head()
    store.tamper("DELETE FROM entries WHERE seq >= 4")
    journal = store.open()
    assert journal.verify() is None
    found = journal.verify(expected_head=noted)
    assert found == Break(4, "missing: the chain ends at entry 3, but entry 5 has been noted")


def test_a_journal_written_anew_shows_only_against_a_noted_head(store: Store, tmp_path: Path) -> None:
    five(store)
    noted = store.open().head()
    other = STORES[store.name](tmp_path / "other")
    forged = other.open()
    forged.append([Draft("test.made", {"number": number}) for number in range(5)])
    try:
        assert forged.verify() is None
        found = forged.verify(expected_head=noted)
        assert found is not None
        assert found.seq == 5
        assert noted.hash in found.problem
    finally:
        other.close()

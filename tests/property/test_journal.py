"""Properties of the chain that hold for any entries whatever."""

from __future__ import annotations

import json
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.journal.base import AlreadyAppendedError, Draft, Entry
from fabric.journal.chain import EMPTY, Stored, canonical, link, parse_lines, stored, to_line, verify
from fabric.journal.fold import Tail, fold
from fabric.journal.sqlite import SqliteJournal

texts = st.text(max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
objects = st.dictionaries(texts, values, max_size=3)
printable = st.characters(categories=["L", "N", "P", "S"]).filter(str.isprintable)
words = st.text(printable, min_size=1, max_size=12)
times_us = st.integers(0, 4_000_000_000_000_000)
drafts = st.builds(Draft, words, objects, st.none() | words)


@st.composite
def chains(draw: st.DrawFn, least: int = 1) -> list[Stored]:
    chain: list[Stored] = []
    previous = EMPTY.hash
    for seq, draft in enumerate(draw(st.lists(drafts, min_size=least, max_size=4)), 1):
        item = link(draft, canonical(draft.data), seq=seq, at_us=draw(times_us), actor=draw(words), previous=previous)
        chain.append(item)
        previous = item.hash
    return chain


@settings(deadline=None)
@given(objects)
def test_canonical_json_reads_back_the_same_and_has_one_form(data: dict[str, object]) -> None:
    text = canonical(data)
    back = json.loads(text)
    assert canonical(back) == text
    assert canonical(dict(reversed(data.items()))) == text
    assert text.isascii()
    assert text.isprintable()


@settings(deadline=None)
@given(st.sampled_from([float("nan"), float("inf"), -float("inf"), {1: 2}, {None: 1}, b"", {1, 2}, object()]), objects)
def test_what_is_not_json_is_refused_however_deep(bad: object, data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="journal"):
        canonical({**data, "deep": [{"er": (bad,)}]})


@settings(deadline=None)
@given(chains())
def test_a_chain_verifies_and_survives_entries_and_lines(chain: list[Stored]) -> None:
    assert verify(chain) is None
    assert [stored(item.to_entry()) for item in chain] == chain
    lines = [to_line(item) for item in chain]
    assert all(json.loads(line)["hash"] == item.hash for line, item in zip(lines, chain, strict=True))
    assert list(parse_lines(line + "\n" for line in lines)) == chain


@settings(deadline=None)
@given(chains(), st.data())
def test_changing_any_character_of_any_line_names_that_entry(chain: list[Stored], data: st.DataObject) -> None:
    lines = [to_line(item) for item in chain]
    at = data.draw(st.integers(0, len(lines) - 1))
    position = data.draw(st.integers(0, len(lines[at]) - 1))
    replacement = data.draw(st.characters(codec="utf-8").filter(lambda char: char != lines[at][position]))
    lines[at] = lines[at][:position] + replacement + lines[at][position + 1 :]
    found = verify(parse_lines(lines))
    assert found is not None
    assert found.seq == at + 1


@settings(deadline=None)
@given(chains(least=2), st.data())
def test_removing_doubling_or_swapping_entries_names_the_place(chain: list[Stored], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(chain) - 2))
    removed = [*chain[:at], *chain[at + 1 :]]
    doubled = [*chain[: at + 1], *chain[at:]]
    swapped = [*chain[:at], chain[at + 1], chain[at], *chain[at + 2 :]]
    for changed, place in ((removed, at + 1), (doubled, at + 2), (swapped, at + 1)):
        found = verify(changed)
        assert found is not None
        assert found.seq == place


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(drafts, min_size=1, max_size=3, unique_by=lambda draft: draft.once or id(draft)), max_size=8))
def test_a_store_keeps_exactly_the_batches_it_acknowledged(batches: list[list[Draft]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with closing(SqliteJournal(path, "tester")) as journal, closing(SqliteJournal(path, "reader")) as reader:
            tail, followed, acknowledged = Tail(reader), list[Entry](), list[Entry]()
            taken: set[str] = set()
            for batch in batches:
                keys = {draft.once for draft in batch if draft.once is not None}
                with suppress(AlreadyAppendedError):
                    acknowledged += journal.append(batch)
                    assert not keys & taken
                    taken |= keys
                followed += tail.new()
            assert followed == acknowledged == list(reader.read())
            assert tail.new() == []
            assert [entry.seq for entry in followed] == list(range(1, len(followed) + 1))
            assert fold(followed, 0, lambda count, _: count + 1) == reader.last_seq()
            assert reader.verify(journal.head()) is None

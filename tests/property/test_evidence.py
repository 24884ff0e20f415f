"""Evidence of any journal verifies, proves what it says, and stops to verify whatever is done to it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.evidence.document import parse
from fabric.evidence.keys import sign
from fabric.evidence.verify import verify_evidence
from fabric.journal.base import Draft
from fabric.journal.chain import digest
from tests.evidence_journals import KEY, PUBLIC, evidence, stories

Story = tuple[list[Draft], str, bool]


@settings(max_examples=25, deadline=None)
@given(story=stories())
def test_evidence_of_any_journal_verifies_and_says_whether_the_job_kept_to_its_class(story: Story) -> None:
    drafts, job, kept = story
    made = evidence(drafts, job)
    found = verify_evidence(made.text().encode(), PUBLIC)
    assert found.problems == ()
    assert found.is_good == kept
    assert parse(made.text().encode()) == made


@settings(max_examples=25, deadline=None)
@given(story=stories())
def test_every_entry_of_the_job_is_in_it_and_nothing_of_any_other_job(story: Story) -> None:
    drafts, job, _ = story
    made = evidence(drafts, job)
    own = [number for number, draft in enumerate(drafts, 1) if draft.data.get("job") == job]
    assert set(own) <= {proven.item.seq for proven in made.entries}
    for draft in drafts:
        other = draft.data.get("job")
        if other is not None and other != job:
            assert json.dumps(f"secret_of_{other}")[1:-1] not in made.text()
    assert {proven.item.to_entry().data.get("job", job) for proven in made.entries} == {job}


@settings(max_examples=25, deadline=None)
@given(story=stories(), data=st.data())
def test_any_changed_byte_is_noticed(story: Story, data: st.DataObject) -> None:
    content = evidence(story[0], story[1]).text().encode()
    for _ in range(8):
        place = data.draw(st.integers(0, len(content) - 1))
        other = data.draw(st.integers(1, 255)) ^ content[place]
        assert verify_evidence(content[:place] + bytes([other]) + content[place + 1 :], PUBLIC).problems
    cut = data.draw(st.integers(0, len(content) - 1))
    assert verify_evidence(content[:cut], PUBLIC).problems
    assert verify_evidence(content + content[cut:], PUBLIC).problems


@settings(max_examples=25, deadline=None)
@given(story=stories(), data=st.data())
def test_a_removed_a_repeated_and_a_moved_entry_are_named(story: Story, data: st.DataObject) -> None:
    made = evidence(story[0], story[1])
    entries = list(made.entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    seq = entries[place].item.seq

    removed = replace(made, entries=(*entries[:place], *entries[place + 1 :]))
    assert f"Entry {seq} was removed." in verify_evidence(removed.text().encode(), PUBLIC).problems
    twice = replace(made, entries=(*entries[: place + 1], *entries[place:]))
    assert f"Entry {seq} is there more than once." in verify_evidence(twice.text().encode(), PUBLIC).problems
    if place:
        moved = replace(made, entries=(entries[place], *entries[:place], *entries[place + 1 :]))
        said = verify_evidence(moved.text().encode(), PUBLIC).problems
        assert any(problem.startswith("Entries were reordered") and str(seq) in problem for problem in said)


@settings(max_examples=25, deadline=None)
@given(story=stories(), data=st.data())
def test_an_entry_removed_from_the_list_as_well_is_noticed(story: Story, data: st.DataObject) -> None:
    made = evidence(story[0], story[1])
    place = data.draw(st.integers(0, len(made.entries) - 1))
    without = replace(
        made,
        entries=(*made.entries[:place], *made.entries[place + 1 :]),
        manifest=(*made.manifest[:place], *made.manifest[place + 1 :]),
    )
    assert verify_evidence(without.text().encode(), PUBLIC).problems


@settings(max_examples=25, deadline=None)
@given(story=stories(), data=st.data())
def test_an_entry_whose_content_was_changed_is_named_also_where_its_hash_was_made_to_fit(
    story: Story, data: st.DataObject
) -> None:
    made = evidence(story[0], story[1])
    place = data.draw(st.integers(0, len(made.entries) - 1))
    told: dict[str, Any] = json.loads(made.text())
    told["entries"][place]["entry"]["data"]["site"] = "elsewhere"
    changed = json.dumps(told, indent=1, sort_keys=True) + "\n"
    seq = made.entries[place].item.seq
    (said,) = verify_evidence(changed.encode(), PUBLIC).problems
    assert said.startswith(f"Entry {seq} (") and "was changed" in said

    item = parse(changed.encode()).entries[place].item
    fitted = replace(made.entries[place], item=replace(item, hash=digest(item.body())))
    again = replace(made, entries=(*made.entries[:place], fitted, *made.entries[place + 1 :]))
    (said,) = verify_evidence(again.text().encode(), PUBLIC).problems
    assert said.startswith(f"Entry {seq} (") and "not the one in the list" in said

    listed = (*made.manifest[:place], (seq, fitted.item.hash), *made.manifest[place + 1 :])
    signed_anew = sign(replace(again, manifest=listed), KEY)
    (said,) = verify_evidence(signed_anew.text().encode(), PUBLIC).problems
    assert said.startswith(f"Entry {seq} (") and "not proven to be in the journal" in said


@settings(max_examples=25, deadline=None)
@given(story=stories(), seed=st.binary(min_size=32, max_size=32))
def test_a_foreign_key_is_named(story: Story, seed: bytes) -> None:
    other = Ed25519PrivateKey.from_private_bytes(seed)
    made = evidence(story[0], story[1])
    foreign = sign(made, other)
    assert "signed with a foreign key" in verify_evidence(foreign.text().encode(), PUBLIC).problems[0]
    assert verify_evidence(foreign.text().encode(), None).problems == ()
    borrowed = replace(foreign, key=PUBLIC)
    assert "signature is not" in verify_evidence(borrowed.text().encode(), PUBLIC).problems[0]


@settings(deadline=None)
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_what_is_no_evidence_at_all_is_said_to_be_none(content: bytes) -> None:
    assert verify_evidence(content, PUBLIC).problems

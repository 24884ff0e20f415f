"""Evidence against the journal: a signer who leaves an entry out is found."""

from __future__ import annotations

from dataclasses import replace

from fabric.evidence.against import left_out
from fabric.evidence.document import Evidence
from fabric.evidence.keys import sign
from fabric.evidence.statement import statement
from fabric.evidence.verify import Finding, verify_evidence
from fabric.journal.chain import stored, to_line
from fabric.model.events import Event
from tests.evidence_journals import KEY, PUBLIC, chained, denied, evidence, good_story, opening

DRAFTS = [*opening(), *good_story("j", "patient", ["onprem/home/a"])[:-1], denied("j", "fab-far-1", "far", "patient")]
LINES = [to_line(stored(entry)) + "\n" for entry in chained(DRAFTS)]


def checked(made: Evidence) -> Finding:
    return verify_evidence(made.text().encode(), PUBLIC)


def test_a_denial_that_whoever_has_the_key_left_out_is_named_by_the_journal() -> None:
    whole = evidence(DRAFTS, "j")
    kept = tuple(proven for proven in whole.entries if proven.item.kind != Event.JOB_DENIED)
    lying = sign(
        replace(
            whole,
            entries=kept,
            manifest=tuple((proven.item.seq, proven.item.hash) for proven in kept),
            statement=statement([proven.item.to_entry() for proven in kept], "j"),
        ),
        KEY,
    )
    found = checked(lying)
    assert found.is_good
    assert left_out(found, LINES).problems == (f"Entry {len(DRAFTS)} (job.denied) of the journal was left out.",)
    assert left_out(checked(whole), LINES).is_good


def test_an_export_that_goes_on_after_the_head_is_fine_and_one_of_another_journal_is_not() -> None:
    found = checked(evidence(DRAFTS, "j"))
    longer = [to_line(stored(entry)) for entry in chained([*DRAFTS, *good_story("k", "open", [])])]
    assert left_out(found, longer).is_good
    other = [to_line(stored(entry)) for entry in chained([*opening(), *good_story("j", "open", []), *opening()])]
    assert left_out(found, other).problems == ("The export is of another journal: its tree has another root.",)
    assert "broken at entry 1" in left_out(found, ["what is this\n"]).problems[0]
    assert "ends at entry 0" in left_out(found, []).problems[0]

"""The reference page of the journal tells every kind of entry with every field that the code names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fabric.model.events import Event
from fabric.money.ledger import Cause

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "journal.md").read_text()
ROWS = {
    cells[0].strip("` "): cells[2]
    for line in PAGE.splitlines()
    if line.startswith("| `") and len(cells := line.strip("|").split("|")) == 3
}
MODEL = (ROOT / "fabric" / "model" / "events.py").read_text()


def fields_of(event: Event) -> set[str]:
    """The field names in the comment on an event, which may go on over further lines."""
    comment = re.search(rf'{event.name} = "[^"]+"  # (.*(?:\n    # .*)*)', MODEL)
    assert comment is not None, f"{event.name} has no comment"
    without_remarks = re.sub(r"\([^)]*\)", "", comment.group(1).replace("\n    #", " "))
    return {name.strip(" []{}") for name in without_remarks.split(",")}


@pytest.mark.parametrize("event", list(Event))
def test_every_kind_has_a_row_with_every_field(event: Event) -> None:
    named = set(re.findall(r"`(\w+)(?:\[\]|\{\})?`", ROWS[event.value]))
    assert fields_of(event) - named == set()


def test_no_row_is_about_a_kind_that_is_gone() -> None:
    kinds = {name for name in ROWS if re.fullmatch(r"[a-z]+\.[a-z_]+|decision", name)}
    assert kinds == {event.value for event in Event}


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_of_the_ledger_is_explained(cause: Cause) -> None:
    assert f"| `{cause.value}` |" in PAGE

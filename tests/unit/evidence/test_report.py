"""The report of a period."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fabric.evidence.page import page
from fabric.evidence.report import report
from fabric.journal.base import Draft
from fabric.model.events import Event
from tests.evidence_journals import (
    RULES,
    START_US,
    admitted,
    begun,
    chained,
    denied,
    good_story,
    opening,
    ran_on,
    submitted,
)

START = START_US / 1_000_000


def story() -> list[Draft]:
    wide = copy.deepcopy(RULES)
    wide["classes"]["patient"]["sites"] = ["home", "near"]
    wide["classes"]["secret"] = {"sites": ["home"], "spot": "never"}
    wide["teams"]["vision"] = None
    drafts = [
        *opening(),
        *good_story("a", "internal", ["onprem/home/a", "fab-near-1"]),
        submitted("b", "patient", "noa", "clinic", "t2"),
        admitted("b", 1, ["home"]),
        begun("b", 1),
        denied("b", "fab-far-1", "far", "patient"),
        Draft(
            Event.CLASS_WIDENED, {"data_class": "patient", "sites": ["near"], "spot": False, "path": "f", "digest": "e"}
        ),
        Draft(Event.CONFIG_LOADED, {"digest": "e", "path": "f", "rules": wide}),
        Draft(Event.CONFIG_REJECTED, {"digest": "x", "path": "f", "problems": ["f:1:1: no"]}),
        Draft(Event.TOKEN_REVOKED, {"id": "t2", "by": "ops"}),
    ]
    # Ray's times are in the period, too; b was on a site of which its rules say no.
    drafts.append(ran_on("b", 1, "fab-near-1", "near", START + 5, START + 8))
    return drafts


def told(begin: float = START, end: float = START + 1000) -> dict[str, Any]:
    return report(chained(story()), begin, end, "lab", START + 2000)


def test_it_counts_jobs_sites_denials_widenings_and_edits() -> None:
    made = told()
    assert [(row["data_class"], row["jobs"], row["phases"], row["violations"]) for row in made["classes"]] == [
        ("internal", 1, {"succeeded": 1}, 0),
        ("patient", 1, {"open": 1}, 1),
    ]
    (violation,) = made["violations"]
    assert (violation["job"], violation["site"]) == ("b", "near")
    assert [(row["job"], row["site"]) for row in made["denials"]] == [("b", "far")]
    assert [(row["data_class"], row["sites"]) for row in made["widened"]] == [("patient", ["near"])]
    assert [row["changes"] for row in made["config_changes"]] == [
        [],
        [
            "data class secret was added: sites home, spot never",
            "data class patient: sites home, spot never → sites home and near, spot never",
            "team vision: internal → the default class",
        ],
        ["refused: f:1:1: no"],
    ]
    assert [(row["kind"], row["id"]) for row in made["access"]] == [
        ("token.created", "t1"),
        ("token.created", "t2"),
        ("token.revoked", "t2"),
    ]
    assert made["head"]["seq"] == len(story())


def test_what_is_before_and_after_the_period_is_not_in_it_but_the_rules_before_are_known() -> None:
    entries = chained(story())
    last = entries[-1].at
    made = report(entries, last, last + 1, "lab", last + 2)
    assert [job["job"] for job in made["jobs"]] == ["b"]
    assert (made["denials"], made["widened"], made["config_changes"], made["access"]) == ([], [], [], [])
    early = report(entries, START, entries[6].at, "lab", last)
    assert (early["jobs"], early["head"]["seq"]) == ([], 6)
    assert report([], 0.0, 1.0, "lab", 2.0)["head"]["seq"] == 0


def test_the_time_on_nodes_is_that_within_the_period() -> None:
    made = told(START + 6)
    (row,) = [row for row in made["sites"] if row["site"] == "near" and row["data_class"] == "patient"]
    assert (row["seconds"], row["machines"], row["jobs"], row["allowed"]) == (2.0, 1, 1, False)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_everything_needs_nothing_and_is_fit_to_print() -> None:
    html = page(told())
    tags = Tags()
    tags.feed(html)
    assert (tags.open, tags.sources) == ([], [])
    assert "@media print" in html and "@page" in html and "<script" not in html and "url(" not in html
    for text in ("1 times work ran where its data class did not allow it", "team vision: internal → the default class",
                 "Data of class patient may not go to far.", "2026-09-21", "succeeded"):  # fmt: skip
        assert text in html, text


@pytest.mark.parametrize("bad", ["<script>alert(1)</script>", "\"'><img src=x>", "{{ 7*7 }}"])
def test_what_came_from_outside_is_text_on_the_page(bad: str) -> None:
    drafts = [*opening(), submitted(bad, "open", bad, bad)]
    html = page(report(chained(drafts), START, START + 100, bad, START))
    assert "<script>" not in html and "<img" not in html and not re.search(r">\s*49\s*<", html)


def test_the_report_is_json() -> None:
    made = told()
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_a_period_in_which_nothing_happened_has_a_page_as_well() -> None:
    html = page(report([], START, START + 1, "lab", START))
    assert "All work ran where its data class allowed it." in html and "No job was submitted" in html

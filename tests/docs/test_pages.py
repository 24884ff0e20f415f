"""The documentation is held to the code: links resolve, commands exist, every word the product says is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fabric.model.decisions import ReasonCode
from fabric.model.events import Event

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
DOCS = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_a_page_names_in_code_exists(page: Path) -> None:
    if "decisions" in page.parts or page.name == "CHANGELOG.md":
        return  # history may name what is gone
    named = re.findall(
        r"`((?:fabric|autoscaler|jobs|configs|tests|docs)/[\w./-]+\.(?:py|yaml|json|md))`", page.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", DOCS, re.M))
    assert named - targets == set()


def test_every_make_target_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M).group(1).split())
    helped = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert phony == helped


@pytest.mark.parametrize("event", list(Event))
def test_every_kind_of_journal_entry_is_documented(event: Event) -> None:
    assert f"`{event.value}`" in DOCS


@pytest.mark.parametrize("code", list(ReasonCode))
def test_every_reason_code_is_documented(code: ReasonCode) -> None:
    assert f"`{code.value}`" in DOCS


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_ci_calls_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()

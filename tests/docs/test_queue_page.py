"""The reference page of the queue names every code that the queue can give."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pytest

from fabric.admission.decide import MOST_ADMISSIONS, MOST_TRIES
from fabric.admission.values import AdmitReason, DoomReason, WaitReason

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "queue.md").read_text()


@pytest.mark.parametrize("code", [*WaitReason, *DoomReason, *AdmitReason])
def test_every_code_is_explained(code: StrEnum) -> None:
    assert f"`{code.value}`" in PAGE


def test_the_bounds_of_a_decision_are_those_of_the_code() -> None:
    assert f"{MOST_ADMISSIONS} admissions, {MOST_TRIES:,} kinds" in " ".join(PAGE.split())

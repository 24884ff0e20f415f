"""What a badge proves."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.boot.trust import guard_key_file
from fabric.sovereignty.badge import badge, badge_is_good

ATTEMPTS = st.tuples(st.binary(min_size=32, max_size=40), st.text(max_size=20), st.integers(1, 1000))


@given(ATTEMPTS)
def test_a_badge_is_good_for_its_own_attempt(attempt: tuple[bytes, str, int]) -> None:
    assert badge_is_good(*attempt, badge(*attempt))


@given(ATTEMPTS, ATTEMPTS)
def test_a_badge_is_bad_for_every_other_attempt_and_key(
    one: tuple[bytes, str, int], two: tuple[bytes, str, int]
) -> None:
    assert badge_is_good(*two, badge(*one)) == (one == two)


@given(ATTEMPTS, st.text())
def test_what_somebody_made_up_is_no_badge(attempt: tuple[bytes, str, int], shown: str) -> None:
    assert not badge_is_good(*attempt, shown)


def test_a_key_that_is_no_key_makes_no_badges() -> None:
    with pytest.raises(ValueError, match="at least 32 are needed"):
        badge(b"", "job", 1)


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = guard_key_file(tmp_path)
    made = path.read_bytes()
    assert len(made) == 32
    assert guard_key_file(tmp_path).read_bytes() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

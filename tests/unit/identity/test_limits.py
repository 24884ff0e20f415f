"""The rate limit of one user."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.identity.limits import MOST_USERS, RateLimits


@settings(deadline=None)
@given(
    gaps=st.lists(st.floats(min_value=0, max_value=3), max_size=200),
    per_second=st.floats(min_value=0.1, max_value=50),
    burst=st.integers(min_value=1, max_value=20),
)
def test_no_span_of_time_lets_more_through_than_the_burst_and_the_rate(
    gaps: list[float], per_second: float, burst: int
) -> None:
    limits, now, passed = RateLimits(), 1000.0, []
    for gap in gaps:
        now += gap
        if limits.wait("mia", now, per_second, burst) == 0.0:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - passed[first]) * per_second + 1e-6


@settings(deadline=None)
@given(
    gaps=st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=50),
    per_second=st.floats(min_value=0.1, max_value=50),
    burst=st.integers(min_value=1, max_value=20),
)
def test_who_comes_back_when_told_is_let_through(gaps: list[float], per_second: float, burst: int) -> None:
    limits, now = RateLimits(), 0.0
    for gap in gaps:
        now += gap
        wait = limits.wait("mia", now, per_second, burst)
        if wait > 0.0:
            now += wait + 1e-6
            assert limits.wait("mia", now, per_second, burst) == 0.0


def test_one_user_does_not_use_up_what_another_has() -> None:
    limits = RateLimits()
    assert [limits.wait("mia", 0.0, 1.0, 2) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert limits.wait("noa", 0.0, 1.0, 2) == 0.0


def test_users_whose_bucket_is_full_again_are_forgotten_and_there_is_a_most() -> None:
    limits = RateLimits()
    for number in range(MOST_USERS + 500):
        limits.wait(f"user-{number}", 0.0, 0.001, 5)
    assert len(limits) == MOST_USERS
    for number in range(MOST_USERS):
        limits.wait("mia", 1e6 + number, 1.0, 5)
    assert len(limits) <= 2


def test_a_clock_that_goes_back_gives_nobody_more() -> None:
    limits = RateLimits()
    assert [limits.wait("mia", 10.0, 1.0, 1), limits.wait("mia", 5.0, 1.0, 1) > 0] == [0.0, True]


def test_an_edit_of_the_limit_counts_from_the_next_request_on() -> None:
    limits = RateLimits()
    assert all(limits.wait("mia", 0.0, 1.0, 10) == 0.0 for _ in range(5))
    assert limits.wait("mia", 0.0, 1.0, 1) == 0.0
    assert limits.wait("mia", 0.0, 1.0, 1) > 0.0

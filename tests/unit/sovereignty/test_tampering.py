"""Which environment variables a submission may not set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.sovereignty.badge import ATTEMPT, BADGE, DATA_CLASS, JOB, SITES
from fabric.sovereignty.tampering import forbidden_environment

ANYTHING = st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner))


@pytest.mark.parametrize(
    "name",
    [JOB, ATTEMPT, BADGE, DATA_CLASS, SITES, "FABRIC_SELECTOR", "fabric_site", "ELASTIC_FABRIC_GUARD", "RAY_JOB_ID"],
)
def test_a_submission_that_speaks_for_the_fabric_is_refused_by_name(name: str) -> None:
    sentence = forbidden_environment({"env_vars": {"HOME": "/", name: "x"}})
    assert sentence is not None
    assert name in sentence
    assert "HOME" not in sentence


@given(ANYTHING)
def test_whatever_a_runtime_environment_looks_like_there_is_an_answer(runtime_env: object) -> None:
    forbidden_environment(runtime_env)


def test_variables_of_the_users_own_are_welcome() -> None:
    assert forbidden_environment({"env_vars": {"MY_FABRIC": "silk", "RAY_DEDUP_LOGS": "0"}, "pip": ["x"]}) is None
    assert forbidden_environment(None) is None

"""Passwords in environment variables are in the journal only sealed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.gateway.jobs.sealed import Seal, SealBrokenError

SECRET = {"entrypoint": "python x.py", "runtime_env": {"env_vars": {"HF_TOKEN": "hf_abc"}, "pip": ["x"]}}


def test_no_value_stands_in_what_is_kept_and_names_do(tmp_path: Path) -> None:
    closed = Seal(tmp_path).close(SECRET)
    assert "hf_abc" not in str(closed)
    assert list(closed["runtime_env"]["env_vars"]) == ["HF_TOKEN"]
    assert closed["runtime_env"]["pip"] == ["x"]


@given(st.dictionaries(st.text(min_size=1), st.text() | st.just("sealed:x")))
def test_what_was_sent_comes_back(tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]) -> None:
    seal = Seal(tmp_path_factory.mktemp("state"))
    sent = {"entrypoint": "true", "runtime_env": {"env_vars": variables}}
    assert seal.open(seal.close(sent)) == sent


def test_another_process_with_the_same_state_opens_it_and_one_with_another_does_not(tmp_path: Path) -> None:
    closed = Seal(tmp_path / "a").close(SECRET)
    assert Seal(tmp_path / "a").open(closed) == SECRET
    with pytest.raises(SealBrokenError, match="another key"):
        Seal(tmp_path / "b").open(closed)


def test_the_key_is_for_its_owner_only(tmp_path: Path) -> None:
    Seal(tmp_path)
    key = tmp_path / "secrets" / "submissions.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("env", [None, {}, {"env_vars": None}, {"pip": ["x"]}])
def test_a_submission_without_variables_stays_as_it_is(tmp_path: Path, env: object) -> None:
    sent = {"entrypoint": "true", "runtime_env": env}
    assert Seal(tmp_path).close(sent) == sent

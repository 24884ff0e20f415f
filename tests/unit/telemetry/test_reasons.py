"""A reason's sentence says what its facts say, and nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.model.decisions import Fact, Reason, ReasonCode
from fabric.telemetry.reasons import sentence

NUMBERS = (
    "gpus", "cpus", "requests", "nodes", "minimum", "maximum", "bundles", "threshold_gpus", "threshold_cpus",
    "threshold_for_s", "unneeded_s", "idle_s", "timeout_s", "deadline_s", "per_hour_micro_usd",
)  # fmt: skip


@pytest.mark.parametrize("code", ReasonCode)
def test_without_facts_a_sentence_has_no_number_and_is_whole(code: ReasonCode) -> None:
    said = sentence(Reason(code))
    assert not re.search(r"\d", said)
    assert "  " not in said
    assert said[0].isupper()
    assert said.endswith(".")


@given(code=st.sampled_from(ReasonCode), missing=st.sets(st.sampled_from(NUMBERS)))
def test_a_fact_that_is_none_is_not_guessed(code: ReasonCode, missing: set[str]) -> None:
    said = sentence(Reason(code, dict.fromkeys(missing, None)))
    assert not re.search(r"\d|None", said)


@given(
    code=st.sampled_from(ReasonCode),
    facts=st.dictionaries(st.sampled_from(NUMBERS), st.integers(min_value=2, max_value=100)),
)
def test_every_number_in_a_sentence_is_one_of_its_facts(code: ReasonCode, facts: dict[str, int]) -> None:
    known: dict[str, Fact] = {name: value for name, value in facts.items() if name != "per_hour_micro_usd"}
    said = {int(number) for number in re.findall(r"\d+", sentence(Reason(code, known)))}
    assert said <= set(known.values())


@pytest.mark.parametrize(
    ("code", "facts", "said"),
    [
        (ReasonCode.MINIMUM_NODES, {"minimum": 1}, "at least 1 node of this type"),
        (ReasonCode.MINIMUM_NODES, {"minimum": 2}, "at least 2 nodes of this type"),
        (ReasonCode.BASELINE_EXCEEDED, {"gpus": 0.0, "cpus": 0.5, "requests": 3}, "wants 0.5 CPUs that"),
        (ReasonCode.BASELINE_EXCEEDED, {"gpus": 0.0, "cpus": 0.0, "requests": 0}, "wants 0 requests that"),
        (ReasonCode.OVER_MAXIMUM, {"nodes": 3, "maximum": 1}, "There are 3 nodes where the configuration allows 1"),
        (ReasonCode.OVER_MAXIMUM, {"nodes": 3}, "There are more nodes than the configuration allows."),
        (ReasonCode.IDLE, {"idle_s": 0}, "has been idle for 0 s,"),
        (ReasonCode.JOIN_DEADLINE, {"deadline_s": 7200}, "did not join within 2 h of its launch;"),
        (ReasonCode.JOIN_DEADLINE, {}, "did not join in time;"),
    ],
)  # fmt: skip
def test_a_known_fact_is_said_in_its_unit(code: ReasonCode, facts: dict[str, Fact], said: str) -> None:
    assert said in sentence(Reason(code, facts))

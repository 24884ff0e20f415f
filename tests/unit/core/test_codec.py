"""Snapshots and decisions as JSON: nothing is lost, and what is not one is refused with its place."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings

from autoscaler.core.codec import (
    CodecError,
    decode,
    decode_decision,
    decode_snapshot,
    encode,
    encode_decision,
    encode_snapshot,
)
from autoscaler.core.decide import decide
from autoscaler.core.policies import policy_named
from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import Decision, Fact, Launch, Reason, ReasonCode
from tests.strategies import NOW, snapshots

POLICY = policy_named("threshold")


@settings(max_examples=100, deadline=None)
@given(snapshots())
def test_snapshots_and_their_decisions_survive_json_and_decide_the_same(snapshot: Snapshot) -> None:
    decision = decide(snapshot, POLICY, NOW)
    read = decode_snapshot(json.loads(json.dumps(encode_snapshot(snapshot))))
    assert read == snapshot
    assert decode_decision(json.loads(json.dumps(encode_decision(decision)))) == decision
    assert decide(read, POLICY, NOW) == decision


@pytest.mark.parametrize("fact", [True, False, 1, 0, 1.0, 2.5, "1", "", None, (), ("a", "b")])
def test_a_fact_keeps_its_type(fact: Fact) -> None:
    reason = Reason(ReasonCode.IDLE, {"fact": fact})
    read = decode(Reason, json.loads(json.dumps(encode(reason)))).facts["fact"]
    assert (read, type(read)) == (fact, type(fact))


def test_what_has_its_default_is_left_out() -> None:
    assert encode(Decision(at=1.5)) == {"at": 1.5}


def test_numbers_that_json_has_no_word_for_survive() -> None:
    for number in (math.inf, -math.inf):
        assert decode(Decision, json.loads(json.dumps(encode(Decision(at=number))))).at == number
    assert math.isnan(decode(Decision, encode(Decision(at=math.nan))).at)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ([], "Decision: expected an object"),
        ({}, "Decision: expected a field at"),
        ({"at": "soon"}, "Decision.at: expected a number"),
        ({"at": 1, "launch": []}, "Decision: expected no field launch"),
        (
            {"at": 1, "launches": [{"node_type": "a", "count": 1.5}]},
            "Decision.launches[0]: expected a field offers, reasons",
        ),
        ({"at": 1, "depth": {"gpus": True}}, "Decision.depth.gpus: expected a number"),
    ],
)
def test_what_is_no_decision_is_refused_with_its_place(data: object, place: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode_decision(data)
    assert place in str(caught.value)


def test_a_reason_from_the_future_is_refused() -> None:
    data = encode(Launch("a", 1, (), (Reason(ReasonCode.IDLE),)))
    data["reasons"][0]["code"] = "boredom"
    with pytest.raises(CodecError, match=r"Launch\.reasons\[0\]\.code: expected one of"):
        decode(Launch, data)


def test_a_value_of_an_unknown_kind_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        thing: object = field(default_factory=object)

    with pytest.raises(CodecError, match="object"):
        encode(Odd())

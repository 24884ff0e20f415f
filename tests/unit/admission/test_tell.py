"""Every code has its sentence, with facts or without."""

from __future__ import annotations

import pytest

from fabric.admission.tell import admission_sentence, doomed_sentence, preemption_sentence, waiting_sentence
from fabric.admission.values import (
    Admission,
    AdmitReason,
    Away,
    Doomed,
    DoomReason,
    Preemption,
    Waiting,
    WaitReason,
)
from fabric.model.money import USD


@pytest.mark.parametrize("reason", list(WaitReason))
def test_every_reason_to_wait_is_a_sentence_even_without_facts(reason: WaitReason) -> None:
    text = waiting_sentence(Waiting("j", None, 3, reason), now=0.0)
    assert text[0].isupper() and text.endswith(".") and "None" not in text


@pytest.mark.parametrize("reason", list(DoomReason))
def test_every_reason_to_fail_is_a_sentence_even_without_facts(reason: DoomReason) -> None:
    text = doomed_sentence(Doomed("j", reason))
    assert text[0].isupper() and text.endswith(".") and "None" not in text


@pytest.mark.parametrize("reason", list(AdmitReason))
def test_every_reason_to_start_is_a_sentence_even_without_facts(reason: AdmitReason) -> None:
    text = admission_sentence(Admission("j", 1, "j", ("home",), {}, reason=reason))
    assert text[0].isupper() and text.endswith(".") and "None" not in text


def test_a_waiting_job_hears_its_place_what_it_waits_for_its_start_at_home_and_its_burst() -> None:
    away = Away("sea", "sea.box", "sea.box//spot", 2, 10 * USD, 0, 25 * USD, 120.0, ("4 GPUs deep for 300 s",))
    facts = {"resources": "2 x (8 GPUs)"}
    waiting = Waiting("j", 3, 17, WaitReason.NO_ROOM, facts, start_at=7200.0, away=away)
    assert waiting_sentence(waiting, now=0.0) == (
        "Position 3 of 17. It is next and waits for 2 x (8 GPUs) to come free. "
        "It is expected to start at home in 2 h, at 1970-01-01 02:00:00 UTC. "
        "It may burst to sea once the queue has been 4 GPUs deep for 300 s: 2 x sea.box at about $10.00 an hour, "
        "$25.00 for the whole run, 2 min to boot."
    )


def test_a_missed_deadline_and_a_job_that_never_fits_say_that_they_stay() -> None:
    late = waiting_sentence(Waiting("j", 1, 1, WaitReason.BEHIND_OTHERS, late=True), now=0.0)
    never = waiting_sentence(Waiting("j", None, 1, WaitReason.NEVER_FITS), now=0.0)
    assert "deadline can no longer be met" in late
    assert "stays in the queue" in never


def test_who_gives_way_hears_for_whom_and_that_it_comes_back() -> None:
    text = preemption_sentence(Preemption("a", 1, "a", "b", {"lost_s": 90.0}))
    assert text == "Stopped after 90 s to give way to b, which has a higher priority; it is started again."

"""What a job's entries are read to say."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from fabric.evidence.document import parse
from fabric.evidence.extract import NoEvidenceError, extract
from fabric.evidence.keys import BadKeyError, public_pem, read_public_key, sign
from fabric.evidence.verify import key_text, verify_evidence
from fabric.journal.base import Draft
from fabric.model.events import Event
from tests.evidence_journals import (
    KEY,
    PUBLIC,
    RULES,
    admitted,
    begun,
    chained,
    denied,
    evidence,
    finished,
    good_story,
    opening,
    ran_on,
    started,
    submitted,
)


def test_it_says_who_what_where_and_by_which_rule() -> None:
    made = evidence([*opening(), *good_story("j", "internal", ["onprem/home/a", "fab-near-1"])], "j").statement
    assert (made["user"], made["team"], made["token_id"], made["data_class"]) == ("mia", "vision", "t1", "internal")
    assert made["token"]["roles"] == ["user"] and made["token"]["by"] == "ops"
    assert made["rule"] == {
        "entry": 1,
        "class": {"sites": {"country": "de"}, "spot": "never"},
        "allowed_sites": ["home", "near"],
    }
    assert made["code"] == {"gcs://_ray_pkg_j.zip": "ab" * 32}
    home, near = made["nodes"]
    assert (home["site"], home["market"], home["allowed"]) == ("home", "owned", True)
    assert (near["python"], near["ray"], near["hostname"]) == ("3.11.7", "2.60.0", "host-fab-near-1")
    assert (near["rule"], near["first_s"], near["last_s"]) == ("labels", 1.0, 2.0)
    assert (made["findings"], made["gaps"]) == ([], [])


def test_a_rented_machine_is_told_with_the_image_that_was_configured() -> None:
    made = evidence([*opening(), *good_story("j", "open", ["onprem/home/a", "fab-far-1"])], "j").statement
    assert [node["image"] for node in made["nodes"]] == ["", "ami-0123456789abcdef0"]


def test_a_node_that_is_written_again_is_one_node_with_its_first_and_last_time() -> None:
    story = [submitted("j", "open"), admitted("j", 1, ["home"]), begun("j", 1)]
    story += [ran_on("j", 1, "fab-near-1", "near", 5.0, 6.0), ran_on("j", 1, "fab-near-1", "near", 4.0, 99.5)]
    (node,) = evidence([*opening(), *story], "j").statement["nodes"]
    assert (node["first_s"], node["last_s"]) == (4.0, 99.5)


def violations(*story: Draft, rules: Draft | None = None) -> tuple[str, ...]:
    made = evidence([rules or started(), *opening()[1:], *story], "j")
    found = verify_evidence(made.text().encode(), PUBLIC)
    assert found.problems == ()
    return found.violations


def test_a_site_that_was_touched_although_the_class_excludes_it_is_named() -> None:
    story = [submitted("j", "patient"), admitted("j", 1, ["home"]), begun("j", 1), ran_on("j", 1, "fab-far-1", "far")]
    (said,) = violations(*story)
    assert "attempt 1 ran on node node-fab-far-1 at site far" in said
    assert "Data of class patient may go only to the sites listed for it, without far." in said


def test_a_machine_that_can_be_taken_back_is_named_where_the_class_forbids_it() -> None:
    spot = ran_on("j", 1, "fab-near-1", "near")
    spot = replace(spot, data={**spot.data, "market": "spot"})
    (said,) = violations(submitted("j", "internal"), admitted("j", 1, ["near"]), begun("j", 1), spot)
    assert "may not go to machines that the cloud can take back" in said


@pytest.mark.parametrize(("site", "market"), [("", "owned"), ("nowhere", "on-demand"), ("near", "barter")])
def test_what_is_not_known_is_not_allowed(site: str, market: str) -> None:
    node = ran_on("j", 1, "strange", site)
    node = replace(node, data={**node.data, "market": market})
    assert len(violations(submitted("j", "internal"), admitted("j", 1, ["home"]), begun("j", 1), node)) == 1


def test_a_node_written_as_of_another_site_than_its_machine_is_named() -> None:
    story = [submitted("j", "internal"), admitted("j", 1, ["home"]), begun("j", 1)]
    (said,) = violations(*story, ran_on("j", 1, "fab-far-1", "home"))
    assert "written as of site home, but that machine is of site far" in said


def test_an_admission_to_more_than_the_class_allows_is_named() -> None:
    (said,) = violations(submitted("j", "patient"), admitted("j", 1, ["far", "home"]))
    assert "admits attempt 1 to far" in said


def test_each_attempt_is_judged_by_the_rules_of_its_own_admission_also_when_they_were_widened_later() -> None:
    wide = copy.deepcopy(RULES)
    wide["classes"]["patient"]["sites"] = ["home", "near"]
    edit = Draft(Event.CONFIG_LOADED, {"digest": "e", "path": "fabric.yaml", "rules": wide})
    widening = Draft(Event.CLASS_WIDENED, {"data_class": "patient", "sites": ["near"], "spot": False, "digest": "e"})
    other = Draft(Event.CLASS_WIDENED, {"data_class": "internal", "sites": ["far"], "spot": False, "digest": "e"})
    story = [submitted("j", "patient"), admitted("j", 1, ["home"]), begun("j", 1), widening, other, edit]
    story += [ran_on("j", 1, "fab-near-1", "near"), admitted("j", 2, ["home", "near"]), begun("j", 2)]
    story += [ran_on("j", 2, "fab-near-1", "near"), finished("j"), widening]
    made = evidence([*opening(), *story], "j").statement
    assert [node["allowed"] for node in made["nodes"]] == [False, True]
    assert [attempt["allowed_sites"] for attempt in made["attempts"]] == [["home"], ["home", "near"]]
    assert [item["sites"] for item in made["widened"]] == [["near"]]


def test_denials_are_in_it() -> None:
    story = [submitted("j", "patient"), admitted("j", 1, ["home"]), denied("j", "fab-far-1", "far", "patient")]
    (denial,) = evidence([*opening(), *story], "j").statement["denials"]
    assert (denial["site"], denial["token"]) == ("far", "fab-far-1")


def test_what_the_journal_does_not_show_is_said() -> None:
    story = [submitted("j", "patient", token_id=""), admitted("j", 1, ["home"]), begun("j", 1)]
    gaps = evidence([*opening(), *story], "j").statement["gaps"]
    assert [gap.split()[0:4] for gap in gaps] == [
        ["The", "job", "was", "not"],
        ["Attempt", "1", "was", "started,"],
        ["The", "journal", "does", "not"],
    ]
    without_rules = [*story, ran_on("j", 1, "onprem/home/a", "home")]
    made = evidence(without_rules, "j").statement
    assert any("which rules were in force when attempt 1 was admitted" in gap for gap in made["gaps"])
    assert ["The rules of that time are not known" in finding for finding in made["findings"]] == [True]


def test_there_is_no_evidence_of_a_job_that_is_not_there_or_of_a_broken_journal() -> None:
    entries = chained([*opening(), *good_story("j", "open", [])])
    with pytest.raises(NoEvidenceError, match="no entry says that the job k was submitted"):
        extract(entries, "k", "lab", 1.0)
    with pytest.raises(NoEvidenceError, match="no entry says"):
        extract([], "j", "lab", 1.0)
    with pytest.raises(NoEvidenceError, match="broken at entry 3: missing"):
        extract([*entries[:2], *entries[3:]], "j", "lab", 1.0)
    changed = replace(entries[4], data={**entries[4].data, "site": "home"})
    with pytest.raises(NoEvidenceError, match="broken at entry 5: changed"):
        extract([*entries[:4], changed, *entries[5:]], "j", "lab", 1.0)


def test_every_byte_of_a_file_counts() -> None:
    content = evidence([*opening(), *good_story("j", "internal", ["fab-near-1"])], "j").text().encode()
    for place in range(0, len(content), 11):
        for flip in (0x01, 0x20, 0x80):
            changed = content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
            assert verify_evidence(changed, PUBLIC).problems, place
    for other in (content[:-1], content + b"\n", content.replace(b"\n ", b"\n  ", 1), b"", b"[]\n", b"{}\n"):
        assert verify_evidence(other, PUBLIC).problems


def test_a_changed_sentence_of_the_statement_is_named_by_its_place() -> None:
    made = evidence([*opening(), *good_story("j", "internal", ["fab-near-1"])], "j")
    told = copy.deepcopy(made.statement)
    told["nodes"][0]["site"] = "home"
    said, signature = verify_evidence(replace(made, statement=told).text().encode(), PUBLIC).problems
    assert signature.startswith("The signature is not that of this content")
    assert said == "The statement was changed: statement.nodes[1].site is not what the entries say."
    # Also where whoever has the key signs a statement that the entries do not bear out.
    (said,) = verify_evidence(sign(replace(made, statement=told), KEY).text().encode(), PUBLIC).problems
    assert "statement.nodes[1].site" in said


def test_a_changed_head_is_named() -> None:
    made = evidence([*opening(), *good_story("j", "internal", ["fab-near-1"])], "j")
    other = replace(made.checkpoint, hash=bytes(32))
    (said,) = verify_evidence(replace(made, checkpoint=other).text().encode(), PUBLIC).problems
    assert "head" in said and "is not proven" in said


def test_a_number_too_large_for_json_is_no_crash() -> None:
    text = evidence([*opening(), *good_story("j", "internal", ["fab-near-1"])], "j").text()
    for number in ("1e999", "NaN", "-Infinity", "9" * 5000, "[" * 100_000):
        assert verify_evidence(text.replace('"first_s": 1.0', f'"first_s": {number}', 1).encode(), PUBLIC).problems


def test_a_public_key_is_read_from_its_text_and_from_pem() -> None:
    assert read_public_key(key_text(PUBLIC)) == PUBLIC
    assert read_public_key(f"\n{public_pem(PUBLIC)}") == PUBLIC
    for text in ("", "ed25519:00", "ed25519:zz", PUBLIC.hex(), "-----BEGIN PUBLIC KEY-----\nAAAA\n"):
        with pytest.raises(BadKeyError, match="is not a public key"):
            read_public_key(text)


def test_a_file_reads_back_as_it_was_made() -> None:
    made = evidence([*opening(), *good_story("ü\ud800", "open", ["fab-far-1"], attempts=3)], "ü\ud800")
    assert parse(made.text().encode()) == made
    assert verify_evidence(made.text().encode(), PUBLIC).is_good

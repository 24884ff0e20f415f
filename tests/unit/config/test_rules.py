"""Rules that look at more than one key: each objection stands at its key."""

# ruff: noqa: E501 - a table reads best with one case a line
from __future__ import annotations

import pytest

from fabric.config.rules import LONGEST_TEMP_DIR, RULES
from tests.unit.config.texts import GOOD, edited, problems

CLOUD = "      small: {gpus: 1, cpus: 4, max: 3, price: {on-demand: 1 USD/h}}\n"
NAMESPACES = "    kind: sandbox\n    network: {mode: namespaces}\n"
REACHABLE = "listen: {gateway: 0.0.0.0:8400}\nray: {address: 10.88.0.1}\n"

OBJECTIONS = [
    ("no home", "kind: onprem\n    labels: {country: de}\n    node_types:\n      big: {nodes: [n1, n2], gpus: 8, cpus: 64, memory: 512GiB}",
     "kind: sandbox\n    endpoint: 127.0.0.1:99\n    node_types:\n      big: {gpus: 8, cpus: 64, max: 1, price: {on-demand: 1 USD/h}}",
     "1:1: no site has kind onprem"),
    ("machine twice", "[n1, n2]", "[n1, n1]", "6:25: the machine n1 is already listed under home.big"),
    ("machine in two types", "  cloud:\n", "      more: {nodes: [n2], cpus: 1}\n  cloud:\n", "7:22: the machine n2 is already listed under home.big"),
    ("model without GPUs", "gpus: 8, cpus: 64", "gpu: H100, cpus: 64", "6:30: home.big names a GPU model but has no GPUs"),
    ("no price", "max: 3", "max: 3, market: [on-demand, spot]", "10:68: cloud.small is sold in the spot market but has no spot price"),
    ("market twice", "max: 3", "max: 3, market: [on-demand, on-demand]", "10:61: the market on-demand is listed twice"),
    ("zone twice", "max: 3", "max: 3, zones: [a, b, a]", "10:55: the zone a is listed twice"),
    ("min over max", "max: 3", "min: 4, max: 3", "10:33: cloud.small keeps at least 4 instances but may have only 3"),
    ("slow boot", "max: 3", "max: 3, boot: 8m", "10:41: cloud.small takes as long to boot as burst.join_deadline"),
    ("same port", "burst:\n", "listen: {gateway: 127.0.0.1:7000, reaper: localhost:7000}\nburst:\n", "11:35: listen.reaper uses port 7000 of localhost, which listen.gateway uses too"),
    ("port of Ray", "burst:\n", "listen: {gateway: 0.0.0.0:6379}\nburst:\n", "11:10: listen.gateway uses port 6379 of 0.0.0.0, which ray.port uses too"),
    ("port of the sandbox", "burst:\n", "listen: {reaper: 127.0.0.1:8410}\nburst:\n", "7:3: sites.cloud.endpoint uses port 8410"),
    ("open sandbox", "    kind: sandbox\n", "    kind: sandbox\n    endpoint: 10.0.0.1:8410\n", "9:5: the sandbox cloud may listen on loopback only, not on 10.0.0.1"),
    ("unreachable gateway", "    kind: sandbox\n", NAMESPACES, "1:1: listen.gateway is 127.0.0.1, which instances of site cloud"),
    ("unreachable head", "    kind: sandbox\n", NAMESPACES, "1:1: ray.address is 127.0.0.1, which instances of site cloud"),
    ("odd subnet", "    kind: sandbox\n", "    kind: sandbox\n    network: {mode: namespaces, subnet: 10.88.0.1/24}\n", "9:33: '10.88.0.1/24' is not an IPv4 subnet"),
    ("tiny subnet", "    kind: sandbox\n", "    kind: sandbox\n    network: {mode: namespaces, subnet: 10.88.0.0/30}\n", "9:33: '10.88.0.0/30' is not an IPv4 subnet"),
    ("empty threshold", "{gpus: 4, for: 5m}", "{for: 5m}", "13:7: burst.baseline[0] names neither gpus nor cpus"),
    ("no join deadline", "burst:\n", "burst:\n  join_deadline: 0s\n", "12:3: burst.join_deadline is zero"),
    ("no back-off", "burst:\n", "burst:\n  refusal_backoff: 0s\n", "12:3: burst.refusal_backoff is zero"),
    ("falling back-off", "burst:\n", "burst:\n  refusal_backoff_max: 5s\n", "12:3: burst.refusal_backoff_max is shorter than the first pause"),
    ("short lease", "burst:\n", "burst:\n  lease: 2s\n", "12:3: burst.lease is under 3s"),
    ("no room", "burst:\n", "burst:\n  max_nodes: 2\n", "12:3: burst.max_nodes is 2 but the head, your own machines and every min together make 3"),
    ("budget of no site", "burst:\n", "budgets: [{scope: site/clod, per: day, limit: 1 USD}]\nburst:\n", "11:12: there is no site clod; use one of: home, cloud"),
    ("budget of home", "burst:\n", "budgets: [{scope: site/home, per: day, limit: 1 USD}]\nburst:\n", "11:12: the site home is your own: nothing is bought there"),
    ("two budgets", "burst:\n", "budgets:\n  - {per: day, limit: 1 USD}\n  - {per: day, limit: 2 USD}\nburst:\n", "13:5: there are two budgets for fabric per day"),
    ("same part twice", "burst:\n", "budgets: [{per: day, limit: 1 USD, at: {80%: warn, 80.0%: drain}}]\nburst:\n", "11:52: 80.0% is the same part of the budget as 80%"),
    ("our label", "{country: de}", "{zone: de}", "4:14: the site label 'zone' is set by the fabric itself"),
    ("label with a prefix", "{country: de}", "{a/b: de}", "4:14: the site label 'a/b' has a '/'"),
    ("built-in class", "burst:\n", "data_classes: {home-only: {sites: any}}\nburst:\n", "11:16: home-only is built in and cannot be changed"),
    ("no default class", "burst:\n", "defaults: {data_class: open}\nburst:\n", "11:12: there is no data class open; use one of: home-only"),
    ("class of no site", "burst:\n", "data_classes: {x: {sites: [home, hom]}}\nburst:\n", "11:34: there is no site hom; use one of: home, cloud"),
    ("class of no label", "burst:\n", "data_classes: {x: {sites: {country: fr}}}\nburst:\n", "11:20: no site carries the labels country: fr"),
    ("class of no sites", "burst:\n", "data_classes: {x: {sites: []}}\nburst:\n", "11:20: the list of sites is empty"),
    ("class of no labels", "burst:\n", "data_classes: {x: {sites: {}}}\nburst:\n", "11:20: no label is given"),
    ("relative temp_dir", "burst:\n", "ray: {temp_dir: tmp}\nburst:\n", "11:7: ray.temp_dir is not an absolute path"),
    ("long temp_dir", "burst:\n", "ray: {temp_dir: /" + "x" * LONGEST_TEMP_DIR + "}\nburst:\n", f"11:7: ray.temp_dir has {LONGEST_TEMP_DIR + 1} bytes"),
    ("odd path", "burst:\n", 'fabric: {state: "a\\nb"}\nburst:\n', "11:10: fabric.state has a line break"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line"), [case[1:] for case in OBJECTIONS], ids=[case[0] for case in OBJECTIONS]
)
def test_the_objection_stands_at_its_key(old: str, new: str, line: str) -> None:
    assert [found for found in problems(edited(old, new)) if found.startswith(f"f.yaml:{line}")]


def test_every_rule_objects_to_something_above_and_says_what_it_wants() -> None:
    seen = {problem.split(": ", 1)[1] for _, old, new, _ in OBJECTIONS for problem in problems(edited(old, new))}
    assert len(seen) >= len(OBJECTIONS)
    assert all((rule.__doc__ or "").endswith(".") for rule in RULES)


GOOD_EDITS = [
    ("two sandbox sites", "burst:\n", "  other:\n    kind: sandbox\n    endpoint: 127.0.0.1:8411\n    node_types:\n" + CLOUD + "burst:\n"),
    ("namespaces", "    kind: sandbox\n", NAMESPACES),
    ("the same port on two addresses", "burst:\n", "listen: {gateway: 127.0.0.2:7000, reaper: 127.0.0.3:7000}\nburst:\n"),
    ("the same machine in another site", "  cloud:\n", "  attic:\n    kind: onprem\n    node_types: {old: {nodes: [n1], cpus: 2}}\n  cloud:\n"),
    ("cpus alone", "{gpus: 4, for: 5m}", "{cpus: 64, for: 0}"),
    ("just enough nodes", "burst:\n", "burst:\n  max_nodes: 3\n"),
    ("a default class", "burst:\n", "defaults: {data_class: open}\ndata_classes: {open: {sites: {country: de}}}\nburst:\n"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [case[1:] for case in GOOD_EDITS], ids=[case[0] for case in GOOD_EDITS])
def test_what_is_sound_meets_no_objection(old: str, new: str) -> None:
    text = edited(old, new)
    assert problems(text + REACHABLE if "namespaces" in text else text) == []


def test_the_start_is_good() -> None:
    assert problems(GOOD) == []

"""Text becomes a configuration, or every problem at its place."""

# ruff: noqa: E501 - a table reads best with one case a line
from __future__ import annotations

import time

import pytest

from fabric.config.load import digest
from tests.unit.config.texts import GOOD, config, edited, problems


def test_a_good_file_has_no_problems_and_its_quantities_are_numbers() -> None:
    loaded = config()
    assert loaded.burst.baseline[0].for_ == 300.0
    assert loaded.sites["cloud"].node_types["small"].price.on_demand == 1_000_000
    assert loaded.sites["home"].node_types["big"].memory == 512 * 1024**3


EDITS = [
    # misspelt, unknown, missing
    ("max: 3", "mx: 3", "10:33: 'mx' is not a key that is known in sites.cloud.node_types.small; did you mean 'max'?"),
    ("on-demand:", "on_demand:", "10:49: 'on_demand' is not a key that is known in sites.cloud.node_types.small.price; did you mean 'on-demand'?"),
    ("labels:", "flavour:", "4:5: 'flavour' is not a key that is known in sites.home; remove it, or use one of: labels"),
    (", max: 3", "", "10:7: sites.cloud.node_types.small lacks 'max'; add max:, for example max: 1"),
    ("    - {gpus: 4, for: 5m}\n", "    - {gpus: 4}\n", "13:7: burst.baseline[0] lacks 'for'; add for:, for example for: 90s"),
    ("    kind: sandbox\n", "", "7:3: sites.cloud lacks 'kind'; add kind: onprem, sandbox, aws, gcp, azure or other"),
    # words and numbers
    ("kind: sandbox", "kind: sandbx", "8:11: sites.cloud.kind: 'sandbx' is not allowed here; did you mean sandbox? Allowed: onprem, sandbox, aws, gcp, azure, other"),
    ("cpus: 64", "cpus: '64'", "6:45: sites.home.node_types.big.cpus is the text '64', not a whole number; write a whole number, for example 1"),
    ("cpus: 64", "cpus: true", "6:45: sites.home.node_types.big.cpus is true, not a whole number; write a whole number, for example 1"),
    ("cpus: 64", "cpus: 6.4", "6:45: sites.home.node_types.big.cpus is 6.4, not a whole number; write a whole number, for example 1"),
    ("cpus: 64", "cpus: 0", "6:45: sites.home.node_types.big.cpus is 0 but must be at least 1; write a number that is at least 1"),
    ("gpus: 4", "gpus: .inf", "13:14: burst.baseline[0].gpus is not a finite number; write a plain number"),
    ("nodes: [n1, n2]", "nodes: n1", "6:20: sites.home.node_types.big.nodes is the text 'n1', not a list; write it as a list, for example [a, b]"),
    ("nodes: [n1, n2]", "nodes: []", "6:13: sites.home.node_types.big.nodes is empty; write at least one entry"),
    ("{country: de}", "{country: 49}", "4:23: sites.home.labels.country: 49 is not text; put a label's value in quotes, for example \"8\""),
    ("    labels: {country: de}\n", "    labels: de\n", "4:13: sites.home.labels is the text 'de', not a block of keys; put its keys on indented lines below it"),
    ("  home:\n", "  Home_1:\n", "2:3: sites.Home_1: 'Home_1' is not a name; use 1 to 63 small letters, digits and inner hyphens, for example aws-fra"),
    # units
    ("for: 5m", "for: 5", "13:22: burst.baseline[0].for: 5 is not a duration; write a number and a unit, for example 90s, 5m, 1h30m or 2d"),
    ("for: 5m", "for: 5 min", "13:22: burst.baseline[0].for: '5 min' is not a duration; write a number and a unit, for example 90s, 5m, 1h30m or 2d"),
    ("1 USD/h", "1", "10:60: sites.cloud.node_types.small.price.on-demand: 1 is not a price per hour; write for example 2.50 USD/h"),
    ("1 USD/h", "1 EUR/h", "10:60: sites.cloud.node_types.small.price.on-demand: '1 EUR/h' is not a price per hour (the only currency is USD, not EUR); write for example 2.50 USD/h"),
    ("512GiB", "512", "6:57: sites.home.node_types.big.memory: 512 is not a size; write a number and a unit, for example 512GiB or 80GB"),
    # YAML
    ("  home:\n", "\thome:\n", "2:1: a tab stands where YAML allows only spaces; indent with spaces"),
    ("burst:", "sites:", "11:1: 'sites' is already set in this block, in line 1; keep one of the two"),
    ("{country: de}", "{country: 'de}", "4:23: the quote that opens here is never closed; close it"),
    ("{country: de}", "{country: @de}", "4:23: a value cannot begin with '@'; put it in quotes"),
    ("{country: de}", "country: de", "4:20: a ':' cannot stand here; put the key on a line of its own, or the text in quotes"),
    ("{country: de}", "*other", "4:13: nothing is called &other above; define it first, or put the text in quotes"),
    ("{country: de}", "&a {country: *a}", "4:26: *a stands inside what it repeats; write the values out"),
    ("{country: de}", "!!map {country: de}", "4:13: the tag tag:yaml.org,2002:map is not used here; remove it; put text in quotes instead"),
    ("{country: de}", "{? [a] : de}", "4:16: a block or list cannot be a key; use plain text before the ':'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line"), EDITS, ids=[new.strip() or old.strip() for old, new, _ in EDITS])
def test_a_mistake_is_named_at_its_place_with_what_to_do(old: str, new: str, line: str) -> None:
    assert f"f.yaml:{line}" in problems(edited(old, new))


@pytest.mark.parametrize(
    ("old", "new", "line"), EDITS[:22], ids=[new.strip() or old.strip() for old, new, _ in EDITS[:22]]
)
def test_one_mistake_is_one_problem(old: str, new: str, line: str) -> None:
    assert problems(edited(old, new)) == [f"f.yaml:{line}"]


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = edited("gpus: 4, for: 5m", "gpus: 4, for: 5")
    text = edited("cpus: 64", "cpu: 64", text)
    text = edited("{on-demand: 1 USD/h}", "{spot: 1 USD/h}", text) + "listen: {gateway: here}\nlisten: {}\n"
    lines = problems(text)
    assert [line.split(": ")[0] for line in lines] == [
        "f.yaml:6:39",  # misspelt key
        "f.yaml:10:41",  # a rule over several keys: no price for the market
        "f.yaml:13:22",  # unit
        "f.yaml:14:19",  # address
        "f.yaml:15:1",  # duplicate key
    ]


def test_every_line_that_is_indented_with_a_tab_is_reported() -> None:
    lines = problems("sites:\n\thome: 1\n  cloud:\n\t  x: 1\n")
    assert [line.split(": ")[0] for line in lines] == ["f.yaml:2:1", "f.yaml:4:1"]


def test_a_syntax_error_hides_no_problem_before_it_and_invents_none_after_it() -> None:
    lines = problems(
        edited("kind: onprem", "kind: onprm", edited("    - {gpus: 4, for: 5m}\n", "    - {gpus: 4, for: 5m\n"))
    )
    assert [line.split(": ")[0] for line in lines] == ["f.yaml:3:11", "f.yaml:14:1"]


def test_a_problem_of_a_repeated_value_is_reported() -> None:
    text = edited("{on-demand: 1 USD/h}", "&p {on-demand: 1}") + "budgets: *p\n"
    assert any("price.on-demand: 1 is not a price" in line for line in problems(text))
    assert any("budgets is a block of keys, not a list" in line for line in problems(text))


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "f.yaml:1:1: the file is empty"),
        ("# only a comment\n", "f.yaml:1:1: the file is empty"),
        ("just text", "f.yaml:1:1: the file is not a block of keys"),
        ("- a\n- b\n", "f.yaml:1:1: the file is not a block of keys"),
        ("~", "f.yaml:1:1: the file is not a block of keys"),
        (b"sites:\n  home: \xff", "f.yaml:2:9: the byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"sites:\r  home: \xff", "f.yaml:2:9: the byte 0xff is not UTF-8; save the file as UTF-8"),
        (GOOD.encode("utf-16"), "f.yaml:1:1: the byte 0xff is not UTF-8"),
        ("sites:\n  a\x00b: 1", "f.yaml:2:4: the character U+0000 is not allowed in YAML"),
        ("a: \ud800", "f.yaml:1:4: the character U+D800 is not allowed in YAML"),
        ("a: 1\n---\nb: 1\n", "f.yaml:1:1: 'a' is not a key"),
    ],
)
def test_what_is_not_a_configuration_at_all_is_said_in_a_sentence(text: str | bytes, start: str) -> None:
    assert problems(text)[0].startswith(start)


def test_a_second_document_is_refused() -> None:
    assert any("a second document begins here" in line for line in problems(GOOD + "---\n" + GOOD))


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    assert config("\ufeff" + GOOD.replace("\n", "\r\n")) == config()


def test_columns_count_characters_and_lines_count_what_editors_count() -> None:
    text = "# caf\u00e9 \u2028 \x85 still line 1\n" + edited("{country: de}", "{'\U0001f600': x, y: 1}")
    assert [line.split(": ")[0] for line in problems(text)] == ["f.yaml:5:14", "f.yaml:5:25"]


BOMBS = {
    "deep lists": "a: " + "[" * 100_000,
    "deep blocks": "a: " + "{a: " * 100_000,
    "deep items": "- " * 100_000,
    "deep keys": "? " * 100_000,
    "many values": "a: [" + "1, " * 150_000 + "]",
    "many keys": "".join(f"k{number}: 1\n" for number in range(8_000)),
    "long file": "# " + "x" * 10_000_000,
    "long text": "a: " + "x" * 500_000,
    "huge number": "sites: " + "9" * 100_000,
    "alias bomb": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "alias ladder": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 20_000)),
    "anchors": "".join(f"a{number}: &a{number} 1\n" for number in range(20_000)),
    "quotes": "a: '" + "\n" * 500_000,
    "brackets": "]" * 100_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_no_size_depth_or_repetition_makes_it_hang_or_crash(text: str) -> None:
    began = time.process_time()
    assert problems(text)
    assert time.process_time() - began < 10


def test_a_file_full_of_mistakes_lists_the_first_of_them_and_counts_the_rest() -> None:
    lines = problems(GOOD + "".join(f"k{number}: 1\n" for number in range(1000)))
    assert len(lines) < 400
    assert lines[0].startswith("f.yaml:14:1: 'k0' is not a key")


def test_messages_are_plain_english() -> None:
    text = "\n".join(line for old, new, _ in EDITS for line in problems(edited(old, new)))
    for jargon in ("pydantic", "Input should", "http", "Value error", "NoneType", "dict", "Block", "validation", "str"):
        assert jargon not in text, jargon


def test_the_digest_names_the_text() -> None:
    assert digest(GOOD) == digest(GOOD.encode()) != digest(GOOD + " ")
    assert len(digest("\ud800")) == 64

"""Whatever is done to a configuration file, loading it ends in a configuration or in problems at places in the file."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabric.config.diff import Changes, diff
from fabric.config.load import load
from fabric.config.problems import Problems
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.config.tree import parse

REFERENCE = (Path(__file__).resolve().parents[2] / "configs" / "fabric.yaml").read_text()
LINES = REFERENCE.splitlines(keepends=True)
KEY_LINES = [index for index, line in enumerate(LINES) if not line.lstrip().startswith("#") and ":" in line]
ODD_VALUES = [
    "",
    "~",
    "true",
    "7",
    "-1",
    "0.5",
    ".inf",
    "text",
    "[]",
    "{}",
    "[a, b]",
    "{a: b}",
    "'",
    '"',
    "*x",
    "&x",
    "5m",
    "9" * 60,
]

ROOT = parse(REFERENCE).root
PLAIN: Any = ROOT.plain() if ROOT is not None else None
slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(text: str | bytes) -> Config | Problems:
    """Load, and hold every problem to a place inside the file and to both halves of its message."""
    loaded = load(text, "f.yaml")
    if isinstance(loaded, Problems):
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        lines = shown.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert loaded.items
        for problem in loaded.items:
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
            assert problem.what and problem.remedy
            assert "\n" not in str(problem)
    return loaded


@st.composite
def edited_lines(draw: st.DrawFn) -> str:
    """The reference with a few of its lines deleted, repeated, renamed, given other values, moved or indented."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.sampled_from(KEY_LINES))
        line = lines[index]
        key, _, value = line.partition(":")
        lines[index] = draw(
            st.sampled_from(
                [
                    "",
                    line + line,
                    f"{key}x:{value}",
                    f"{key}: {draw(st.sampled_from(ODD_VALUES))}\n",
                    draw(st.sampled_from(lines)),
                    f" {line}",
                    f"\t{line}",
                    line.replace(":", "", 1),
                    line.rstrip("\n"),
                ]
            )
        )
    return "".join(lines)


@given(edited_lines())
@slow
def test_an_edited_reference_loads_or_has_problems(text: str) -> None:
    check(text)


@given(st.integers(0, len(REFERENCE)), st.integers(0, 40), st.text(max_size=12))
@slow
def test_a_reference_with_characters_replaced_loads_or_has_problems(start: int, length: int, new: str) -> None:
    check(REFERENCE[:start] + new + REFERENCE[start + length :])


@given(st.integers(0, len(REFERENCE.encode())), st.binary(min_size=1, max_size=4))
@slow
def test_a_reference_with_bytes_replaced_loads_or_has_problems(start: int, new: bytes) -> None:
    data = REFERENCE.encode()
    check(data[:start] + new + data[start + len(new) :])


@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}&*?|>'\"\n\t #%!,", max_size=60) | st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_at_all_loads_or_has_problems(text: str | bytes) -> None:
    check(text)


@st.composite
def edited_values(draw: st.DrawFn) -> Any:
    """The reference as plain values, one of them, anywhere, replaced by something else or removed."""
    plain = deepcopy(PLAIN)
    holder: Any = plain
    for _ in range(draw(st.integers(0, 5))):
        inner = [value for value in (holder.values() if isinstance(holder, dict) else holder) if value]
        deeper = [value for value in inner if isinstance(value, (dict, list))]
        if not deeper:
            break
        holder = draw(st.sampled_from(deeper))
    place = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    if draw(st.booleans()):
        del holder[place]
    else:
        holder[place] = draw(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([]) | st.just({})
            | st.lists(st.none() | st.integers()) | st.dictionaries(st.text(max_size=4), st.none() | st.integers())
        )  # fmt: skip
    return plain


@given(edited_values())
@slow
def test_other_values_and_missing_ones_load_or_have_problems(plain: Any) -> None:
    # Every JSON text is YAML, so this reaches the schema and the rules without fear of YAML's own syntax.
    check(json.dumps(plain))


@given(edited_values())
@slow
def test_a_loaded_configuration_written_out_loads_as_the_same(plain: Any) -> None:
    loaded = check(json.dumps(plain))
    if isinstance(loaded, Config):
        written = json.dumps(loaded.model_dump(mode="json", by_alias=True))
        assert check(written) == loaded
        assert diff(loaded, loaded, list(node_types(loaded))) == Changes(())


@given(edited_values(), edited_values())
@settings(slow, max_examples=15)
def test_an_edit_is_told_exactly_when_something_changed(old: Any, new: Any) -> None:
    before, after = load(json.dumps(old), "f"), load(json.dumps(new), "f")
    if isinstance(before, Config) and isinstance(after, Config):
        outcome = diff(before, after, [])
        if isinstance(outcome, Changes):
            assert bool(outcome.sentences) == (before != after)


def test_the_reference_itself_round_trips() -> None:
    loaded = check(REFERENCE)
    assert isinstance(loaded, Config)
    assert check(json.dumps(loaded.model_dump(mode="json", by_alias=True))) == loaded

"""The configurations that ship: they load, explain every key, state the right defaults, and fit the editor's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from fabric.config import jsonschema as generated_schema
from fabric.config import reference
from fabric.config.load import load
from fabric.config.schema import Config
from fabric.config.shape import Shape, config_shape, default_of, fields_of
from fabric.config.tree import parse
from tests.unit.config.test_load import EDITS
from tests.unit.config.texts import GOOD, edited

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs"
SHIPPED = [CONFIGS / "fabric.yaml", *sorted((CONFIGS / "examples").glob("*.yaml"))]
# What only clouds and OpenID Connect have is explained where it is used.
REFERENCES = [
    (CONFIGS / name).read_text() for name in ("fabric.yaml", "examples/three-clouds.yaml", "examples/other-cloud.yaml")
]
SCHEMA = json.loads((CONFIGS / "fabric.schema.json").read_text())
# What the reference says where there is no value to state.
WITHOUT = {
    "Ray's own",
    "Ray chooses",
    "Ray measures it",
    "no label",
    "no limit",
    "not sold there",
    "the cloud's own",
    "the system's",
    "none of its own",
    "known from the shape",
    "from the price files",
    "the default class",
    "as queue.undeclared",
}
EMPTY = {"none", "nothing", "only the built-in home-only"}


def keys(shape: Shape, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Shape]]:
    """Every key of the schema: where it is, with a star for names and items, and the shape of its block."""
    for choice in shape.choices.values():
        yield from keys(choice, path)
    if shape.item is not None:
        yield from keys(shape.item, (*path, "*"))
    for key, inner in shape.keys.items():
        yield (*path, key), shape
        yield from keys(inner, (*path, key))


KEYS = list(keys(config_shape()))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_configuration_is_good(file: Path) -> None:
    loaded = load(file.read_text(), file.name)
    assert isinstance(loaded, Config), str(loaded)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_configuration_names_the_schema_for_editors_and_fits_it(file: Path) -> None:
    text = file.read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named and (file.parent / named[1]).resolve() == CONFIGS / "fabric.schema.json"
    root = parse(text).root
    assert root is not None
    jsonschema.Draft202012Validator(SCHEMA).validate(root.plain())


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, new, _ in EDITS[:22]])
def test_the_schema_for_editors_refuses_what_the_fabric_refuses(old: str, new: str) -> None:
    root = parse(edited(old, new)).root
    assert root is not None
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(root.plain()))


def test_the_schema_for_editors_is_a_schema_and_accepts_a_good_file() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    root = parse(GOOD).root
    assert root is not None
    jsonschema.Draft202012Validator(SCHEMA).validate(root.plain())


def test_generated_files_are_current() -> None:
    assert (CONFIGS / "fabric.schema.json").read_text() == generated_schema.text(), "run: make docs"
    assert (ROOT / "docs/reference/configuration.md").read_text() == reference.text(), "run: make docs"


def found_in_reference(path: tuple[str, ...]) -> list[tuple[int, str]]:
    """Lines of the references at which the key stands, with what the comment there says."""
    return [place for text in REFERENCES for place in found_in(text, path)]


def found_in(text: str, path: tuple[str, ...]) -> list[tuple[int, str]]:
    root = parse(text).root
    assert root is not None
    nodes = [(0, root)]
    for step in path:
        entries = [
            (position.line, node)
            for _, holder in nodes
            for key, (position, node) in (
                (holder.keys or {}).items()
                if holder.keys is not None
                else ((str(index), (item.at, item)) for index, item in enumerate(holder.items or []))
            )
            if step in ("*", key)
        ]
        nodes = entries
    return [(line, comment_above(text, line)) for line, _ in nodes]


def comment_above(text: str, line: int) -> str:
    lines = text.splitlines()
    own = lines[line - 1].partition(" # ")[2]
    index = line - 2
    above: list[str] = []
    while index >= 0 and lines[index].lstrip().startswith("#"):
        above.insert(0, lines[index].strip().lstrip("# "))
        index -= 1
    return " ".join([*above, own])


@pytest.mark.parametrize(("path", "shape"), KEYS, ids=[".".join(path) for path, _ in KEYS])
def test_the_reference_sets_and_explains_every_key(path: tuple[str, ...], shape: Shape) -> None:
    assert shape.model is not None
    places = found_in_reference(path)
    assert places, f"{'.'.join(path)} stands in no reference"
    assert any(comment for _, comment in places), f"{'.'.join(path)} has no comment"


@pytest.mark.parametrize("path", sorted({path for path, _ in KEYS}), ids=".".join)
def test_the_reference_states_the_default_that_the_code_has(path: tuple[str, ...]) -> None:
    """A key that several kinds of site have may state the default of any of them."""
    models = [shape.model for other, shape in KEYS if other == path and shape.model is not None]
    infos = [fields_of(model)[path[-1]] for model in models]
    said = " ".join(comment for _, comment in found_in_reference(path))
    if path[:2] == ("burst", "baseline") and len(path) > 2:
        said = said.partition(f"{path[-1]}: ")[2].partition(". cpus:")[0]  # one comment for the three keys of an item
    if any(info.is_required() for info in infos):
        assert "Required" in said
        return
    if all(default_of(info) is None and info.default is not None for info in infos):
        return  # a block: its keys state their own defaults
    stated = re.findall(r"Default: (.+?)(?:\.(?: |$)|, |; | ?$)", said)
    assert stated, f"{'.'.join(path)} states no default"
    assert set(stated) <= {saying for info in infos for saying in sayings(default_of(info))}


def sayings(default: object) -> set[str]:
    if default is None:
        return WITHOUT
    return EMPTY if default in ([], {}) else {spoken(default)}


def spoken(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return f"[{', '.join(default)}]"
    return f"{default:g}" if isinstance(default, float) else str(default)

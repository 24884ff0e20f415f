"""What pydantic found, in plain words and at its place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from fabric.config.problems import Path, Position
from fabric.config.shape import Shape, config_shape
from fabric.config.tree import Node
from fabric.config.units import show

Explained = tuple[Path, Position, str, str]

_SITES_REMEDY = "write any, a list such as [home], or labels such as {tier: gold}"
MOST = 300
_COMPARISONS = {
    "greater_than_equal": ("ge", "must be at least"),
    "less_than_equal": ("le", "must be at most"),
    "greater_than": ("gt", "must be more than"),
    "less_than": ("lt", "must be less than"),
}


def explain(error: ValidationError, root: Node) -> list[Explained]:
    """Every error as path, position, what is wrong and what to do.

    A required key that is only misspelt is one problem, not two.
    """
    errors = error.errors(include_url=False)[:MOST]
    meant = {_meant(details, root) for details in errors if details["type"] == "extra_forbidden"}
    return [
        _explain(details, root)
        for details in errors
        if details["type"] != "missing" or locate(details["loc"])[0] not in meant
    ]


def locate(loc: tuple[Any, ...]) -> tuple[Path, Shape, Shape, bool]:
    """A pydantic location as keys and indices of the file.

    Returns the path without the marks pydantic adds (the chosen member of a choice, ``[key]``), the shape at its
    end, the shape around it, and whether the key itself is meant.
    """
    path: list[str | int] = []
    shape = parent = config_shape()
    steps = list(loc)
    on_key = bool(steps) and steps[-1] == "[key]"
    if on_key:
        steps.pop()
    for step in steps:
        if shape.choices and step in shape.choices:
            shape = shape.choices[step]
            continue
        path.append(step)
        parent = shape
        shape = shape.keys.get(str(step)) or shape.item or Shape()
    return tuple(path), shape, parent, on_key


def suggest(word: str, known: list[str]) -> str | None:
    """The known word that ``word`` most likely means."""
    folded = {known_word.casefold().replace("_", "-"): known_word for known_word in known}
    match = get_close_matches(word.casefold().replace("_", "-")[:80], list(folded), n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def words(items: list[str]) -> str:
    """``a, b or c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"


def _explain(details: Any, root: Node) -> Explained:
    kind, value = str(details["type"]), details["input"]
    path, shape, parent, on_key = locate(details["loc"])
    name = _name(path)
    if kind == "extra_forbidden":
        return (path, root.key_position(path), *_unknown_key(path, parent, root))
    if kind == "missing":
        *around, key = path
        what = f"{_name(tuple(around))} lacks {key!r}" if around else f"{key!r} is missing"
        return path, root.key_position(tuple(around)), what, _add(str(key), shape)
    if kind == "union_tag_not_found" and shape.choices and "any" not in shape.choices:
        what, remedy = f"{name} lacks 'kind'", f"add kind: {words(list(shape.choices))}"
        return (*path, "kind"), root.key_position(path), what, remedy
    if kind == "union_tag_invalid":
        path = (*path, "kind")
        return path, root.value_position(path), *_not_allowed(value["kind"], list(shape.choices), _name(path))
    at = root.key_position(path) if on_key else root.value_position(path)
    return path, at, *_bad_value(kind, value, name, shape, details)


def _bad_value(kind: str, value: Any, name: str, shape: Shape, details: Any) -> tuple[str, str]:
    context: dict[str, Any] = details.get("ctx", {})
    if kind == "value_error":
        what, _, remedy = str(context["error"]).rpartition("; ")
        return (what if name in what else f"{name}: {what}"), remedy
    if kind == "literal_error" and "any" in shape.allowed:
        return (
            f"{name}: {show(value)} is not a choice of sites",
            _SITES_REMEDY,
        )
    if kind == "union_tag_not_found":
        return f"{name} is {show(value)}", _SITES_REMEDY
    if kind == "literal_error" or (kind == "bool_type" and shape.allowed):
        return _not_allowed(value, list(shape.allowed), name)
    if kind in _COMPARISONS:
        limit, phrase = _COMPARISONS[kind]
        bound = f"{context[limit]:,g}"
        return f"{name} is {show(value)} but {phrase} {bound}", f"write a number that is {phrase[8:]} {bound}"
    if kind in ("too_short", "string_too_short"):
        return f"{name} is empty", "write at least one entry" if kind == "too_short" else "write something there"
    if kind in ("too_long", "string_too_long"):
        return f"{name} has more than {context.get('max_length')} entries", "make it shorter"
    if kind == "string_pattern_mismatch":
        return f"{name}: {show(value)} has not the right form", _FORMS.get(name.rpartition(".")[2], "see the reference")
    if kind == "finite_number":
        return f"{name} is not a finite number", "write a plain number"
    return _wrong_type(value, name, shape)


_FORMS = {
    "journal": "write sqlite: and a path, for example sqlite:state/journal.db",
    "scope": "write fabric, or site/ and the name of a site",
}


def _wrong_type(value: Any, name: str, shape: Shape) -> tuple[str, str]:
    wanted = shape.wanted
    what = f"{name} is empty" if value is None else f"{name} is {_described(value)}, not {wanted}"
    if value is None:
        remedy = f"write {wanted} there, or remove the key"
    elif shape.is_list:
        remedy = "write it as a list, for example [a, b]"
    elif wanted == "a block of keys":
        remedy = "put its keys on indented lines below it"
    elif wanted == "text":
        remedy = "put it in quotes"
    else:
        remedy = f"write {wanted}, for example {show(shape.example)}"
    return what, remedy


def _described(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return show(value)
    return f"the text {show(value)}" if isinstance(value, str) else show(value)


def _meant(details: Any, root: Node) -> Path:
    """The path of the known key that an unknown one most likely means; the empty path for none."""
    path, _, parent, _ = locate(details["loc"])
    near = _near(path, parent, root)
    return (*path[:-1], near) if near else ()


def _near(path: Path, parent: Shape, root: Node) -> str | None:
    near = suggest(str(path[-1]), list(parent.keys))
    return None if near in _keys_at(root, path[:-1]) else near


def _unknown_key(path: Path, parent: Shape, root: Node) -> tuple[str, str]:
    key, known = str(path[-1]), list(parent.keys)
    present = _keys_at(root, path[:-1])
    near = _near(path, parent, root)
    where = f"in {_name(path[:-1])}" if len(path) > 1 else "at the top of the file"
    what = f"{show(key)} is not a key that is known {where}"
    if near is not None:
        return what, f"did you mean {near!r}?"
    unused = [word for word in known if word not in present] or known
    listed = ", ".join(unused[:20])
    return what, f"remove it, or use one of: {listed}"


def _keys_at(root: Node, path: Path) -> Mapping[str, object]:
    steps = list(root.walk(path))
    return (steps[-1][1] if steps else root).keys or {}


def _not_allowed(value: Any, allowed: list[str], name: str) -> tuple[str, str]:
    near = suggest(value, allowed) if isinstance(value, str) else None
    meant = f"did you mean {near}? Allowed: " if near and len(allowed) > 1 else "write "
    listed = ", ".join(allowed) if meant != "write " else words(allowed)
    return f"{name}: {show(value)} is not allowed here", f"{meant}{listed}"


def _add(key: str, shape: Shape) -> str:
    if shape.keys or shape.choices or (shape.item and not shape.is_list):
        return f"add {key}: with its keys below it"
    if shape.is_list:
        return f"add {key}: with at least one item"
    example = words(list(shape.allowed)) if shape.allowed else shape.example
    return f"add {key}:" + (f", for example {key}: {example}" if example is not None else "")


def _name(path: Path) -> str:
    """A path as people write it, for example ``burst.baseline[0].for``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{step[:60]}"
    return text or "the file"

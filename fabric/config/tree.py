"""Text to a tree of YAML 1.2 values that remember where they stood.

The tree is built from parser events, without recursion and within fixed bounds, so that no text, however deep,
repetitive or self-referring, makes it hang or crash. Values follow the YAML 1.2 core schema
(https://yaml.org/spec/1.2.2/#103-core-schema): ``yes`` is text, not a truth value.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from fabric.config.problems import Path, Position

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 32
MAX_VALUES = 10_000
START = Position(1, 1)

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,15}")
_OCTAL = re.compile(r"0o[0-7]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,4})?")
# Line breaks in YAML 1.1 and to the parser, but neither in YAML 1.2 nor in editors.
_OLD_BREAKS = str.maketrans(dict.fromkeys("\x85\u2028\u2029", " "))
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(slots=True)
class Node:
    """One value: a scalar, a list or a map. ``size`` and ``depth`` count what it holds with aliases written out."""

    at: Position
    value: Any = None
    items: list[Node] | None = None
    keys: dict[str, tuple[Position, Node]] | None = None
    size: int = 1
    depth: int = 1

    def plain(self) -> Any:
        """The value as plain Python; keys are text, whatever they look like."""
        if self.keys is not None:
            return {key: node.plain() for key, (_, node) in self.keys.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.value

    def walk(self, path: Path) -> Iterator[tuple[Position, Node]]:
        """Key position and node of each step of ``path``, for as far as it stands in the file."""
        node = self
        for step in path:
            if node.keys is not None and isinstance(step, str) and step in node.keys:
                at, node = node.keys[step]
            elif node.items is not None and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
                at = node.at
            else:
                return
            yield at, node

    def key_position(self, path: Path) -> Position:
        """Where the key (or list item) at ``path`` begins, or the nearest one around it that stands in the file."""
        return next(reversed([at for at, _ in self.walk(path)]), self.at)

    def value_position(self, path: Path) -> Position:
        """Where the value at ``path`` begins, or the nearest key around it that stands in the file."""
        steps = list(self.walk(path))
        if len(steps) == len(path) and steps and steps[-1][1].value is not None:
            return steps[-1][1].at
        return steps[-1][0] if steps else self.at


@dataclass(slots=True)
class Tree:
    """What parsing gave: ``root`` is None when there is nothing to look at; ``broken`` when the end was not reached."""

    root: Node | None = None
    problems: list[tuple[Position, str, str]] = field(default_factory=list[tuple[Position, str, str]])
    broken: bool = False


class _Stop(Exception):
    """Parsing cannot go on: the position and both halves of the message."""

    def __init__(self, at: Position, what: str, remedy: str) -> None:
        super().__init__(what)
        self.problem = (at, what, remedy)


def parse(text: str) -> Tree:
    """The tree of ``text`` and everything that is wrong with it as YAML. Never raises."""
    text = text.removeprefix("\ufeff").translate(_OLD_BREAKS)
    builder = _Builder(text)
    tree = builder.tree
    try:
        if len(text) > MAX_CHARACTERS:
            raise _Stop(START, f"the file is longer than {MAX_CHARACTERS:,} characters", "make it shorter")
        builder.build()
    except _Stop as stop:
        tree.problems.append(stop.problem)
        tree.broken = True
    except ReaderError as error:
        tree.problems.append(_bad_character(error, builder))
        tree.broken = True
    except MarkedYAMLError as error:
        tree.problems.extend(_syntax_problems(error, builder))
        tree.broken = True
    except (YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError, AssertionError) as error:
        # The parser's own crash on a malformed text, which is as good as a syntax error for whoever edits the file.
        what = f"the file is not YAML ({type(error).__name__})"
        tree.problems.append((builder.last, what, "look at this line and the one before it"))
        tree.broken = True
    if tree.root is None and not tree.problems:
        what = "the file is empty"
        tree.problems.append((START, what, "write at least sites: and burst:, see configs/fabric.yaml"))
    return tree


def position_in(text: str, index: int) -> Position:
    """Line and column of the character at ``index``, counted the way editors do."""
    return _position(_line_starts(text), index)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", text))]


def _position(starts: list[int], index: int) -> Position:
    line = bisect_right(starts, index)
    return Position(line, index - starts[line - 1] + 1)


class _Builder:
    """Turns events into nodes, one open container at a time."""

    def __init__(self, text: str) -> None:
        self.tree = Tree()
        self.last = START
        self._text = text
        self._lines = _line_starts(text)
        self._open: list[tuple[Node, str | None]] = []  # containers, with the anchor that names each
        self._pending: list[tuple[Position, str] | None] = []  # per open container, the key that waits for its value
        self._anchors: dict[str, Node | None] = {}
        self._values = 0

    def position(self, index: int) -> Position:
        """Line and column of a character."""
        return _position(self._lines, max(0, min(index, len(self._text))))

    def build(self) -> None:
        yaml: Any = YAML(typ="safe", pure=True)
        documents = 0
        for event in yaml.parse(self._text):
            kind = type(event).__name__
            self.last = at = self.position(event.start_mark.index)
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise _Stop(at, "a second document begins here", "keep one document and remove the line ---")
            elif kind in ("ScalarEvent", "AliasEvent", "MappingStartEvent", "SequenceStartEvent"):
                self._begin(kind, event, at)
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                self._end()

    def _begin(self, kind: str, event: Any, at: Position) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _Stop(at, f"the file has more than {MAX_VALUES:,} values", "make it shorter")
        if kind == "AliasEvent":
            self._place(self._aliased(event.anchor, at))
            return
        if getattr(event, "ctag", None):
            self._report(
                at, f"the tag {str(event.ctag)[:40]} is not used here", "remove it; put text in quotes instead"
            )
        if kind == "ScalarEvent":
            node = Node(at, _scalar(event.value) if event.style is None and not event.ctag else event.value)
            if self._wants_key():
                self._set_key(at, event.value)
                return
            self._remember(event.anchor, node)
            self._place(node)
            return
        if len(self._open) >= MAX_DEPTH:
            raise _Stop(at, f"values are nested more than {MAX_DEPTH} deep", "make the file flatter")
        node = Node(at, keys={}) if kind == "MappingStartEvent" else Node(at, items=[])
        if self.tree.root is None and not self._open:
            self.tree.root = node  # from here on a syntax error still leaves what was read
        self._remember(event.anchor, None)
        self._open.append((node, event.anchor))
        self._pending.append(None)

    def _end(self) -> None:
        node, anchor = self._open.pop()
        self._pending.pop()
        self._remember(anchor, node)
        self._place(node)

    def _place(self, node: Node) -> None:
        if not self._open:
            self.tree.root = node
            return
        parent = self._open[-1][0]
        if parent.items is not None:
            parent.items.append(node)
        elif parent.keys is not None:
            pending = self._pending[-1]
            self._pending[-1] = None
            if pending is None:
                self._report(node.at, "a block or list cannot be a key", "use plain text before the ':'")
                self._pending[-1] = (node.at, "")
                return
            at, key = pending
            if key in parent.keys:
                first = parent.keys[key][0].line
                self._report(at, f"{key[:60]!r} is already set in this block, in line {first}", "keep one of the two")
                return
            if key:
                parent.keys[key] = (at, node)
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > MAX_VALUES or parent.depth > MAX_DEPTH:
            what = "aliases make this file too large or too deep"
            raise _Stop(node.at, what, "write the values out instead of repeating them with *")

    def _wants_key(self) -> bool:
        return bool(self._open) and self._open[-1][0].keys is not None and self._pending[-1] is None

    def _set_key(self, at: Position, text: str) -> None:
        if not text:
            self._report(at, "a key is empty", "write a name before the ':'")
        self._pending[-1] = (at, text)

    def _aliased(self, anchor: str, at: Position) -> Node:
        if anchor not in self._anchors:
            self._report(at, f"nothing is called &{anchor[:40]} above", "define it first, or put the text in quotes")
        node = self._anchors.get(anchor)
        if anchor in self._anchors and node is None:
            self._report(at, f"*{anchor[:40]} stands inside what it repeats", "write the values out")
        # A copy that stands where the alias stands, so that problems point at the line that was edited.
        return Node(at) if node is None else Node(at, node.value, node.items, node.keys, node.size, node.depth)

    def _remember(self, anchor: str | None, node: Node | None) -> None:
        if anchor:
            self._anchors[anchor] = node

    def _report(self, at: Position, what: str, remedy: str) -> None:
        self.tree.problems.append((at, what, remedy))


def _scalar(text: str) -> Any:
    """The value of a plain scalar; numbers that are too long to be meant stay text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if len(text) <= 40 and _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _bad_character(error: Any, builder: _Builder) -> tuple[Position, str, str]:
    code = ord(error.character) if isinstance(error.character, str) else int(error.character)
    return builder.position(error.position), f"the character U+{code:04X} is not allowed in YAML", "remove it"


_SYNTAX: tuple[tuple[str, str, str], ...] = (
    (
        "mapping values are not allowed",
        "a ':' cannot stand here",
        "put the key on a line of its own, or the text in quotes",
    ),
    ("could not find expected ':'", "a ':' is missing after this", "write key: value"),
    ("expected ',' or ']'", "a ',' or the closing ']' is missing before this", "close the list"),
    ("expected ',' or '}'", "a ',' or the closing '}' is missing before this", "close the block"),
    ("expected <block end>", "this line does not fit the indentation above it", "align it with the keys it belongs to"),
    (
        "found unknown escape character",
        "this escape is not known inside double quotes",
        "use single quotes, or write \\\\",
    ),
    ("found unexpected end of stream", "the quote that opens here is never closed", "close it"),
    ("found unexpected document separator", "the quote that opens here is never closed", "close it"),
    ("expected the node content", "a value is missing here", "write one, or remove what comes before it"),
    ("block sequence entries are not allowed", "a list item cannot stand here", "put '- ' on a line of its own"),
    ("incompatible YAML document", "this YAML version is not read here", "remove the %YAML line"),
    ("expected the document start", "text stands after the end of the document", "remove it, or the line ..."),
)


def _syntax_problems(error: Any, builder: _Builder) -> list[tuple[Position, str, str]]:
    """The parser's complaint in plain words; for tabs, every line that is indented with one."""
    said = str(error.problem or error.context or "")
    mark = error.problem_mark or error.context_mark
    at = builder.position(mark.index) if mark is not None else builder.last
    if "cannot start any token" in said:
        if "'\\t'" in said:
            return _tabs(builder, at)
        return [(at, f"a value cannot begin with {said.split(chr(39))[1]!r}", "put it in quotes")]
    for words, what, remedy in _SYNTAX:
        if words in said:
            if "quote that opens" in what and error.context_mark is not None:
                at = builder.position(error.context_mark.index)
            return [(at, what, remedy)]
    return [(at, f"this is not YAML ({said.rstrip('.')[:120]})", "look at this line and the one before it")]


def _tabs(builder: _Builder, at: Position) -> list[tuple[Position, str, str]]:
    what, remedy = "a tab stands where YAML allows only spaces", "indent with spaces"
    places = {builder.position(match.end() - 1) for match in re.finditer(r"(?m)^ *\t", builder._text)}  # pyright: ignore[reportPrivateUsage]
    return [(place, what, remedy) for place in sorted(places | {at}) if place >= at]

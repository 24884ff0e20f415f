"""Text to configuration: ``load`` gives a ``Config``, or every problem of the file at once. It never raises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pydantic import ValidationError

from fabric.config.explain import MOST, Explained, explain
from fabric.config.problems import Finding, Path, Position, Problem, Problems
from fabric.config.repair import findings_elsewhere
from fabric.config.rules import check
from fabric.config.schema import Config
from fabric.config.shapes import Prices, unknown
from fabric.config.tree import START, Node, Tree, parse, position_in

Loaded = Config | Problems
_Found = tuple[Position, str, str]


def load(text: str | bytes, file: str, prices: Callable[[Config], Prices] | None = None) -> Loaded:
    """The configuration in ``text``, or its problems in the order of the file.

    Args:
        text: the content of the file; bytes are read as UTF-8.
        file: its name, for the messages.
        prices: gives the price files that count for a configuration; None does not ask whether shapes are known.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            return _problems(file, [_not_utf8(text, error)])
    tree = parse(text)
    if tree.root is None:
        return _problems(file, tree.problems)
    if tree.root.keys is None and not tree.broken:
        what, remedy = "the file is not a block of keys", "begin it with keys such as sites: and burst:"
        return _problems(file, [*tree.problems, (tree.root.at, what, remedy)])
    config, found = _validate(tree, tree.root, prices)
    if config is not None and not found and not tree.problems:
        return config
    return _problems(file, [*tree.problems, *found])


def digest(text: str | bytes) -> str:
    """SHA-256, in hex, by which an edit is recognised and the journal names a configuration."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.sha256(data).hexdigest()


def position_of(text: str, path: Path) -> Position:
    """Where ``path`` stands in ``text``, or the nearest block around it that does."""
    tree = parse(text)
    return START if tree.root is None else tree.root.key_position(path)


def _validate(tree: Tree, root: Node, prices: Callable[[Config], Prices] | None) -> tuple[Config | None, list[_Found]]:
    try:
        config = Config.model_validate(root.plain())
    except ValidationError as error:
        explained = [item for item in explain(error, root) if not _reported(tree, root, item)]
        if tree.broken:
            # Half a file was read: what is missing may stand in the other half.
            limit = tree.problems[-1][0]
            keep = [item for item in explained if item[1].line < limit.line and _stands(root, item[0])]
            return None, [(at, what, remedy) for _, at, what, remedy in keep]
        elsewhere = [] if error.error_count() > MOST else findings_elsewhere(root.plain())
        return None, [
            *((at, what, remedy) for _, at, what, remedy in explained),
            *(_placed(root, finding) for finding in elsewhere),
        ]
    if tree.broken:
        return None, []
    findings = check(config)
    if prices is not None:
        findings += unknown(config, prices(config))
    return config, [_placed(root, finding) for finding in findings]


def _reported(tree: Tree, root: Node, explained: Explained) -> bool:
    """Whether the value at fault has a problem as YAML already, of which this one is only a consequence."""
    path = explained[0]
    steps = list(root.walk(path))
    return len(steps) == len(path) and bool(steps) and steps[-1][1].at in {at for at, _, _ in tree.problems[:MOST]}


def _stands(root: Node, path: Path) -> bool:
    steps = list(root.walk(path))
    return len(steps) == len(path) and bool(steps) and steps[-1][1].value is not None


def _placed(root: Node, finding: Finding) -> _Found:
    return root.key_position(finding.path), finding.what, finding.remedy


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> _Found:
    before = data[: error.start].decode("utf-8", "replace")
    at = position_in(before, len(before))
    return at, f"the byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8"


def _problems(file: str, found: list[_Found]) -> Problems:
    unique = sorted(set(found))
    if len(unique) > MOST:
        at, what = unique[MOST][0], f"from here on there are {len(unique) - MOST:,} more problems"
        unique = [*unique[:MOST], (at, what, "correct the ones above first")]
    return Problems(tuple(Problem(file, at.line, at.column, what, remedy) for at, what, remedy in unique))

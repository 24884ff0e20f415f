"""A stand-in for a configuration that has problems, so that the rules can look at the rest of it.

A file with one misspelt key still deserves to hear that two of its ports clash. Every key with a problem is replaced
by something valid; what the rules then say about the replaced parts and whatever is near them is left out.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fabric.config.explain import locate
from fabric.config.problems import Finding, Path
from fabric.config.rules import check
from fabric.config.schema import Config
from fabric.config.shape import Shape

_ROUNDS = 8


def findings_elsewhere(plain: Any) -> list[Finding]:
    """What the rules object to in the parts of a bad configuration that have no problem themselves."""
    touched: set[Path] = set()
    for _ in range(_ROUNDS):
        try:
            config = Config.model_validate(plain)
        except ValidationError as error:
            if not all(_mend(plain, details, touched) for details in error.errors(include_url=False)):
                return []
        else:
            near = {_part(path) for path in touched}
            return [finding for finding in check(config) if _part(finding.path) not in near]
    return []


def _part(path: Path) -> Path:
    """The part of the file within which a problem may have others as its consequence."""
    return path[:2] if path[:1] == ("sites",) else path[:1]


def _mend(plain: Any, details: Any, touched: set[Path]) -> bool:
    """Make one error go away; False where nothing valid can be put there."""
    path, shape, _, on_key = locate(details["loc"])
    if not path or on_key or shape.choices or (shape.model and details["type"] != "extra_forbidden"):
        return False
    holder = plain
    for step in path[:-1]:
        holder = holder[step]
    touched.add(path)
    if details["type"] == "extra_forbidden":
        holder.pop(path[-1], None)
        return True
    stand_in = _stand_in(shape)
    if stand_in is None:
        return False
    holder[path[-1]] = stand_in
    return True


def _stand_in(shape: Shape) -> Any:
    if shape.is_list and shape.item is not None:
        return None if shape.item.example is None else [shape.item.example]
    return shape.example

"""What is wrong with a configuration, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

Path = tuple[str | int, ...]


class Position(NamedTuple):
    """A place in a file; line and column count from 1, the column in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file: where, what, and what to do about it."""

    file: str
    line: int
    column: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.what}; {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """The problem as JSON for ``--json``, the journal and the status page."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "what": self.what,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Problems:
    """Everything that is wrong with a file, in the order of the file; never empty."""

    items: tuple[Problem, ...]

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.items)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a rule objects to in an otherwise well-formed configuration.

    Attributes:
        path: keys and list indices from the root to what is meant; the nearest part that stands in the file
            gives the position.
        what, remedy: the two halves of the message.
    """

    path: Path
    what: str
    remedy: str

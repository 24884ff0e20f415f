"""The configuration file of a running fabric: read again when it changes, never replaced by a bad edit."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fabric.config.diff import Changes, diff
from fabric.config.load import digest, load, position_of
from fabric.config.problems import Finding, Problem, Problems
from fabric.config.resolve import resolve
from fabric.config.schema import Config
from fabric.config.tree import MAX_CHARACTERS

_MAX_BYTES = 4 * MAX_CHARACTERS + 4


class Outcome(StrEnum):
    """What one look at the file found."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Reload:
    """One look at the file.

    Attributes:
        outcome: CHANGED also when a bad edit was undone; then ``changes`` is empty.
        digest: of the file's content; of the configuration in force when nothing could be read.
        changes: one sentence per change, for CHANGED.
        problems: why the edit is not taken, for REJECTED.
    """

    outcome: Outcome
    digest: str
    changes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class BadConfigError(Exception):
    """The file cannot be used and there is no earlier good one; ``problems`` says why, at which places."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(str(problems))
        self.problems = problems


def read(path: str | os.PathLike[str]) -> Config | Problems:
    """The configuration in the file at ``path`` with absolute paths, or its problems. Never raises."""
    content = _content(Path(path))
    if isinstance(content, Problem):
        return Problems((content,))
    loaded = load(content, str(path))
    return loaded if isinstance(loaded, Problems) else resolve(loaded, _folder(Path(path)))


class ConfigFile:
    """The configuration in force and the file it came from.

    Args:
        path: the file. It may be replaced, half written or gone at any time.
        live: node types of which a machine exists or has been asked for; asked at every edit.
        keep: a file that always holds the last good configuration. With it a process can start while the file
            is bad: it goes on with what was in force before.

    Raises:
        BadConfigError: the file is bad and ``keep`` holds nothing good.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        live: Callable[[], Collection[str]] = tuple,
        keep: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.problems: tuple[Problem, ...] = ()
        self._live = live
        self._keep = None if keep is None else Path(keep)
        self._refused = False
        content = _content(self.path)
        loaded = Problems((content,)) if isinstance(content, Problem) else load(content, str(self.path))
        self._seen = "" if isinstance(content, Problem) else digest(content)
        if isinstance(loaded, Problems):
            self.problems = loaded.items
            content = self._kept(loaded)
            loaded = load(content, str(self._keep))
            if isinstance(loaded, Problems):
                raise BadConfigError(Problems(self.problems))
        assert isinstance(content, bytes)  # noqa: S101 - a good configuration was read from it
        self._accept(content, loaded)

    @property
    def current(self) -> Config:
        """The configuration in force, with absolute paths."""
        return self._current

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the text in force."""
        return self._digest

    def poll(self) -> Reload:
        """Look at the file; take a good edit, report a bad one once and keep it in ``problems``. Never raises."""
        content = _content(self.path)
        if isinstance(content, Problem):
            return self._reject("", (content,))
        seen = digest(content)
        if seen == self._seen and not self._refused:
            return Reload(Outcome.UNCHANGED, seen)
        loaded = load(content, str(self.path))
        if isinstance(loaded, Problems):
            return self._reject(seen, loaded.items)
        edit = diff(self._written, loaded, self._live())
        if not isinstance(edit, Changes):
            text = content.decode("utf-8")
            problems = tuple(_place(str(self.path), text, finding) for finding in edit.findings)
            return self._reject(seen, problems, refused=True)
        self._seen, self._refused, self.problems = seen, False, ()
        self._accept(content, loaded)
        return Reload(Outcome.CHANGED, seen, changes=edit.sentences)

    def _reject(self, seen: str, problems: tuple[Problem, ...], refused: bool = False) -> Reload:
        known = seen == self._seen and problems == self.problems
        # A refused edit is looked at again each time: it becomes acceptable when the machines it is about are gone.
        self._seen, self._refused, self.problems = seen, refused, problems
        return Reload(Outcome.UNCHANGED if known else Outcome.REJECTED, seen or self._digest, problems=problems)

    def _accept(self, content: bytes, loaded: Config) -> None:
        self._written, self._digest = loaded, digest(content)
        self._current = resolve(loaded, _folder(self.path))
        if self._keep is not None:
            _replace(self._keep, content)

    def _kept(self, problems: Problems) -> bytes:
        content = None if self._keep is None else _content(self._keep)
        if not isinstance(content, bytes):
            raise BadConfigError(problems)
        return content


def _content(path: Path) -> bytes | Problem:
    """The bytes of the file, or why they cannot be had."""
    try:
        # A pipe or a device would block or never end: only plain files are opened.
        if not stat.S_ISREG(path.stat().st_mode):
            return Problem(str(path), 1, 1, "this is not a plain file", "name the configuration file itself")
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return Problem(str(path), 1, 1, "there is no such file", "write it, or name the right one")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        return Problem(str(path), 1, 1, f"the file cannot be read: {reason}", "check its path and permissions")


def _place(file: str, text: str, finding: Finding) -> Problem:
    at = position_of(text, finding.path)
    return Problem(file, at.line, at.column, finding.what, finding.remedy)


def _folder(path: Path) -> Path:
    return path.resolve().parent


def _replace(path: Path, content: bytes) -> None:
    """Write ``content`` so that a crash leaves the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    draft.replace(path)

"""The configuration file of a running fabric: read again when it changes, never replaced by a bad edit."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from autoscaler.catalog.files import price_files
from autoscaler.catalog.prices import PriceFileError
from fabric.config.diff import Changes, diff, live_type_findings
from fabric.config.load import Loaded, digest, load, position_of
from fabric.config.problems import Finding, Problem, Problems
from fabric.config.resolve import resolve
from fabric.config.schema import Config
from fabric.config.shapes import Prices, filled
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
    loaded = load_file(content, Path(path))
    return loaded if isinstance(loaded, Problems) else in_force(loaded, Path(path))


def load_file(content: bytes, path: Path, named: Path | None = None) -> Loaded:
    """The configuration as it is written in ``content``, checked against the price files.

    Args:
        content: the text of the file.
        path: where the configuration file is; relative paths count from its folder.
        named: the file that messages name, where ``content`` is a copy.
    """
    file = str(named or path)
    try:
        return load(content, file, lambda config: _prices(config, path))
    except PriceFileError as error:
        return Problems((Problem(file, 1, 1, str(error), "correct that price file, or remove it"),))


def in_force(written: Config, path: Path) -> Config:
    """``written`` with absolute paths and everything filled in that the price files know.

    Args:
        written: what ``load_file`` gave for the file.
        path: where the configuration file is.
    """
    try:
        return filled(resolve(written, _folder(path)), _prices(written, path))
    except PriceFileError:
        return resolve(written, _folder(path))


class ConfigFile:
    """The configuration in force and the file it came from.

    Args:
        path: the file. It may be replaced, half written or gone at any time.
        live: node types of which a machine exists or has been asked for; asked at every edit. Given by the one
            process that judges edits, the controller; None elsewhere.
        keep: a file that holds the last good configuration, written by the process that judges. With it any
            process can start while the file is bad: it goes on with what was in force before.

    Raises:
        BadConfigError: the file is bad, or drops a node type in use, and ``keep`` holds nothing good.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        live: Callable[[], Collection[str]] | None = None,
        keep: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.problems: tuple[Problem, ...] = ()
        self._live = live
        self._keep = None if keep is None else Path(keep)
        self._refused = False
        content = _content(self.path)
        loaded: Loaded = Problems((content,)) if isinstance(content, Problem) else load_file(content, self.path)
        kept = None if self._keep is None else _content(self._keep)
        last_good = load_file(kept, self.path, self._keep) if isinstance(kept, bytes) else None
        self._seen: str = "" if isinstance(content, Problem) else digest(content)
        if isinstance(content, bytes) and isinstance(loaded, Config):
            dropped = live_type_findings(last_good, loaded, self._live_types()) if isinstance(last_good, Config) else ()
            self.problems = self._placed(content, dropped)
            self._refused = bool(self.problems)
            if not self._refused:
                self._accept(content, loaded)
                return
        elif isinstance(loaded, Problems):
            self.problems = loaded.items
        if not isinstance(kept, bytes) or not isinstance(last_good, Config):
            raise BadConfigError(Problems(self.problems))
        self._accept(kept, last_good)

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
        loaded = load_file(content, self.path)
        if isinstance(loaded, Problems):
            return self._reject(seen, loaded.items)
        edit = diff(self._written, loaded, self._live_types())
        if not isinstance(edit, Changes):
            return self._reject(seen, self._placed(content, edit.findings), refused=True)
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
        self._current = in_force(loaded, self.path)
        if self._keep is not None and self._live is not None:
            self.problems += _kept_copy(self._keep, content)

    def _live_types(self) -> Collection[str]:
        return () if self._live is None else self._live()

    def _placed(self, content: bytes, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """Findings as problems of the file, at their places."""
        text = content.decode("utf-8")
        return tuple(
            Problem(str(self.path), *position_of(text, finding.path), finding.what, finding.remedy)
            for finding in findings
        )


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


def _prices(config: Config, path: Path) -> Prices:
    """The price files that count for a configuration: those refreshed into its state folder first."""
    return price_files(Path(resolve(config, _folder(path)).fabric.state) / "prices")


def _folder(path: Path) -> Path:
    return path.resolve().parent


def _kept_copy(path: Path, content: bytes) -> tuple[Problem, ...]:
    """Write ``content`` so that a crash leaves the old file or the new one, whole; the problem, if it cannot be."""
    draft = path.with_name(f"{path.name}.new")
    try:
        if path.is_file() and path.read_bytes() == content:
            return ()
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        what = f"the copy of the last good configuration cannot be written: {error.strerror}"
        return (Problem(str(path), 1, 1, what, "make room, or correct the permissions of the state folder"),)
    return ()

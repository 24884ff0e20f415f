"""Uploaded packages: stored under the digest of what they hold, kept for as long as a job may need them.

Ray names most packages by a hash that only the uploader can compute, and wheels by their file name, so a name proves
nothing about the content: whoever came first under a name would decide what another team runs. Here a name belongs to
the team that uploaded it and leads to the content; the content has a name of its own, made of its SHA-256, and that
name is what a job is submitted to Ray with. The same content is stored once.

    <state>/packages/_ray_pkg_<sha256>.zip       content
    <state>/packages/names/<team>/<name>         the name of the content it stands for
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fabric.gateway.jobs.refusals import (
    bad_request,
    body_too_large,
    disk_full,
    package_not_there,
    packages_full,
    unsafe_package,
)
from fabric.gateway.jobs.scan import TARS, ZIPS, UnsafeArchiveError, scan

SCHEME = "gcs://"
PINNED_S = 600.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{0,200}")
_STORED = re.compile(r"(?:_ray_pkg_|.*-0)([0-9a-f]{64})(?:-[^-]+-[^-]+-[^-]+)?\.(?:zip|whl|tar\.gz|tgz|tar\.xz)")
_PART = ".part"
_MOST_NAMES = 20_000
_LEAST_COUNTED = 64 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """One package: the name of its content, which is also the last part of its URI for Ray, and its SHA-256 in hex."""

    name: str
    sha256: str

    @property
    def uri(self) -> str:
        """The URI that the job is handed to Ray with."""
        return SCHEME + self.name


class PackageStore:
    """The packages under one folder. Its methods block; call them in threads.

    Args:
        folder: made if missing.
        limits: bytes of one package and of all together (``access.upload``, ``access.uploads``).
        needed: whether a job that is not over was submitted with a URI.
        clock: Unix seconds.

    Raises:
        OSError: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        limits: Callable[[], tuple[int, int]],
        needed: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._needed = needed
        self._clock = clock
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob(f"*{_PART}"):
            left.unlink()
        self._total = sum(_counted(path.stat().st_size) for path in self._contents())

    def path(self, uri: str) -> Path:
        """The file with the content of a ``Stored.uri``."""
        return self._folder / uri.removeprefix(SCHEME)

    def find(self, team: str, name: str) -> Stored | None:
        """What ``team`` uploaded under ``name``; None where there is nothing. Keeps it for ``PINNED_S`` at least."""
        if not _NAME.fullmatch(name):
            return None
        try:
            stored = (self._names(team) / name).read_text(encoding="ascii").strip()
            match = _STORED.fullmatch(stored)
            os.utime(self._folder / stored, (self._clock(), self._clock()))
        except (OSError, ValueError):
            return None
        return Stored(stored, match.group(1)) if match else None

    def require(self, team: str, uri: str) -> Stored:
        """The package behind a URI in a submission of ``team``.

        Raises:
            RefusalError: 400: it is not there, or not any more.
        """
        stored = self.find(team, uri.removeprefix(SCHEME))
        if stored is None:
            refusal = package_not_there(uri)
            raise bad_request(refusal.code, f"{refusal.sentence}.", "Submit again, so that it is uploaded.")
        return stored

    def receive(self, team: str, name: str, length: int | None) -> Upload:
        """Begin to take a package in, of ``length`` bytes where that was said. End it with ``keep`` or ``drop``.

        Raises:
            RefusalError: 400 for a name that is none, 413 for too much, 503 where the disk does not take it.
        """
        if not _NAME.fullmatch(name) or not name.endswith((*ZIPS, *TARS)):
            formats = ", ".join((*ZIPS, *TARS))
            raise bad_request("bad_package_name", f"{name[:100]!r} is not the name of a package ({formats}).")
        content_name(name, "")
        most = self._limits()[0]
        if length is not None and length > most:
            raise body_too_large(most, "access.upload")
        part = self._folder / f"{secrets.token_hex(16)}{_PART}"
        try:
            return Upload(part, most, lambda upload: self._keep(part, team, name, upload))
        except OSError as error:
            raise disk_full() from error

    def _keep(self, part: Path, team: str, name: str, upload: Upload) -> None:
        try:
            scan(part, name)
        except UnsafeArchiveError as error:
            raise unsafe_package(name, str(error)) from None
        stored = content_name(name, upload.digest)
        target = self._folder / stored
        with self._lock:
            if not target.exists():
                self._make_room(_counted(upload.size))
                part.rename(target)
                self._total += _counted(upload.size)
            os.utime(target, (self._clock(), self._clock()))
        names = self._names(team)
        names.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._forget_names(names)
        link = names / f"{secrets.token_hex(8)}{_PART}"
        link.write_text(stored, encoding="ascii")
        link.rename(names / name)
        for directory in (names, self._folder):
            _sync(directory)

    def _make_room(self, wanted: int) -> None:
        """Drop what was unused for longest until ``wanted`` bytes fit; never what a job needs or was used just now."""
        limit, now = self._limits()[1], self._clock()
        if self._total + wanted <= limit:
            return
        for path in sorted(self._contents(), key=lambda path: path.stat().st_mtime):
            if now - path.stat().st_mtime > PINNED_S and not self._needed(SCHEME + path.name):
                size = _counted(path.stat().st_size)
                path.unlink()
                self._total -= size
                if self._total + wanted <= limit:
                    return
        raise packages_full(limit)

    def _forget_names(self, names: Path) -> None:
        """Names cost next to nothing, so there may be many; not so many that they fill the disk."""
        if len(os.listdir(names)) > _MOST_NAMES:  # noqa: PTH208 - fast for many
            oldest = sorted(names.iterdir(), key=lambda path: path.stat().st_mtime)[: _MOST_NAMES // 2]
            for path in oldest:
                path.unlink(missing_ok=True)

    def _names(self, team: str) -> Path:
        # No team is called so: names of teams have no capital letters.
        return self._folder / "names" / (team or "NONE")

    def _contents(self) -> Iterator[Path]:
        return (path for path in self._folder.iterdir() if _STORED.fullmatch(path.name))


class Upload:
    """A package on its way in. Its methods block.

    Args:
        path: the file it is written to; made, and gone after ``keep`` or ``drop``.
        most: bytes it may have.
        accept: takes the complete file in.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, most: int, accept: Callable[[Upload], None]) -> None:
        self._path = path
        self._most = most
        self._accept = accept
        self._hash = sha256()
        self._file = path.open("xb")
        self.size = 0

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of what has come."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            RefusalError: 413: it is more than one package may be; 503: the disk does not take it.
        """
        self.size += len(chunk)
        if self.size > self._most:
            raise body_too_large(self._most, "access.upload")
        self._hash.update(chunk)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise disk_full() from error

    def keep(self) -> None:
        """Look at it and store it; it is on disk when this returns.

        Raises:
            RefusalError: 400: it is not safe; 503: no room.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._accept(self)
        except OSError as error:
            raise disk_full() from error

    def drop(self) -> None:
        """Leave nothing behind; after ``keep`` too."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def content_name(name: str, digest: str) -> str:
    """The name of content with this SHA-256 that was uploaded as ``name``.

    A wheel keeps its name, which installers read, and carries the digest as its build tag (PEP 427).
    """
    if name.endswith(".whl"):
        parts = name.removesuffix(".whl").split("-")
        if len(parts) not in (5, 6):
            raise bad_request(
                "bad_package_name", f"{name[:100]!r} is not the name of a wheel, for example pkg-1.0-py3-none-any.whl."
            )
        return "-".join((*parts[:2], f"0{digest}", *parts[-3:])) + ".whl"
    suffix = next(each for each in (*ZIPS, *TARS) if name.endswith(each))
    return f"_ray_pkg_{digest}{suffix}"


def _counted(size: int) -> int:
    """What a file counts for: very many very small ones fill a file system too."""
    return max(size, _LEAST_COUNTED)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

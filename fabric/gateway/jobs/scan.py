"""Whether an uploaded archive is safe to unpack: nothing outside its folder, no links, no bombs."""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

MOST_MEMBERS = 100_000
MOST_UNPACKED = 16 * 1024**3
FREE_RATIO_BYTES = 256 * 1024**2
MOST_RATIO = 200
_LONGEST_NAME = 4096
_MOST_DIRECTORY = 64 * 1024**2
_LONGEST_READ = 1024**2
ZIPS = (".zip", ".whl")
TARS = (".tar.gz", ".tgz", ".tar.xz")


class UnsafeArchiveError(Exception):
    """The archive is not accepted; the text says why, as the end of a sentence."""


class _Member(NamedTuple):
    name: str
    size: int
    plain: bool


def scan(path: Path, name: str) -> None:
    """Look at every member of the archive at ``path``; ``name`` says what kind it is. Unpacks nothing to disk.

    Raises:
        UnsafeArchiveError: it is not a readable archive of its kind, or not safe to unpack.
        OSError: the file cannot be read.
    """
    members = _zip_members(path) if name.endswith(ZIPS) else _tar_members(path, name)
    packed, unpacked = path.stat().st_size, 0
    for count, member in enumerate(members, 1):
        _check_name(member.name)
        if not member.plain:
            raise UnsafeArchiveError(f"{member.name[:100]!r} is a link or a device, and only files can be uploaded")
        unpacked += member.size
        if count > MOST_MEMBERS:
            raise UnsafeArchiveError(f"it has more than {MOST_MEMBERS} files")
        if unpacked > MOST_UNPACKED or unpacked > max(FREE_RATIO_BYTES, packed * MOST_RATIO):
            raise UnsafeArchiveError(
                f"it unpacks to {unpacked} bytes or more, too much for an archive of {packed} bytes"
            )


def _check_name(name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if len(name) > _LONGEST_NAME or "\0" in name:
        raise UnsafeArchiveError(f"the name {name[:100]!r} in it is not the name of a file")
    if name.startswith(("/", "\\")) or ".." in parts or parts[0].endswith(":"):
        raise UnsafeArchiveError(f"{name[:100]!r} in it would be written outside the folder of the job")


def _zip_members(path: Path) -> Iterator[_Member]:
    try:
        with path.open("rb") as file:
            _check_directory(file)
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    mode = info.external_attr >> 16
                    plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
                    yield _Member(info.filename, info.file_size, plain)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, IndexError) as error:
        raise UnsafeArchiveError(f"it is not a zip file that can be read ({error})") from None


def _check_directory(file: IO[bytes]) -> None:
    """How much the list of members says it takes, before all of it is read into memory."""
    # The reader of the standard library itself, which also follows the 64-bit form, so both see the same numbers.
    end: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None:
        raise UnsafeArchiveError("it is not a zip file that can be read (it has no list of members)")
    if end[4] > MOST_MEMBERS or end[5] > _MOST_DIRECTORY:
        raise UnsafeArchiveError(f"it has more than {MOST_MEMBERS} files")
    file.seek(0)


def _tar_members(path: Path, name: str) -> Iterator[_Member]:
    decompressed: Any = lzma.LZMAFile if name.endswith(".tar.xz") else gzip.GzipFile
    try:
        with decompressed(path) as opened, tarfile.open(fileobj=_Bounded(opened), mode="r:") as archive:  # type: ignore[arg-type]
            for info in archive:
                yield _Member(info.name, info.size, info.isreg() or info.isdir())
                # What was looked at is not kept: a list of all members is made as they are read.
                archive.members = []
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise UnsafeArchiveError(f"it is not a tar file that can be read ({error})") from None


class _Bounded:
    """A decompressed stream that cannot be made to fill the memory or to go on for ever."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise UnsafeArchiveError("it has a header that is too long")
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position > MOST_UNPACKED + _LONGEST_READ:
            raise UnsafeArchiveError(f"it unpacks to more than {MOST_UNPACKED} bytes")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

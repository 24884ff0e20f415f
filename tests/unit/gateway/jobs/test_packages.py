"""What may be uploaded, how long it is kept, and what is refused before anybody unpacks it."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.gateway.jobs.packages import PINNED_S, PackageStore, Stored
from fabric.gateway.jobs.scan import MOST_MEMBERS, UnsafeArchiveError, scan
from fabric.gateway.refusals import RefusalError

MIB = 1024**2


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(name: str = "main.py", size: int = 1, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.type = size, kind
        archive.addfile(info, io.BytesIO(b"x" * size) if kind == tarfile.REGTYPE else None)
    return buffer.getvalue()


class Packages:
    """A store with a clock that a test moves, and jobs that need what it says."""

    def __init__(self, folder: Path, upload: int = MIB, uploads: int = 4 * MIB) -> None:
        self.now = 1_000_000.0
        self.needed: set[str] = set()
        self.limits = (upload, uploads)
        self.folder = folder / "packages"
        self.store = PackageStore(self.folder, lambda: self.limits, self.needed.__contains__, lambda: self.now)

    def put(self, content: bytes, name: str = "_ray_pkg_aa.zip", team: str = "vision") -> Stored:
        upload = self.store.receive(team, name, len(content))
        try:
            for start in range(0, len(content), 65536):
                upload.write(content[start : start + 65536])
            upload.keep()
        finally:
            upload.drop()
        stored = self.store.find(team, name)
        assert stored is not None
        return stored

    def refused(self, content: bytes, name: str = "_ray_pkg_aa.zip") -> RefusalError:
        with pytest.raises(RefusalError) as refusal:
            self.put(content, name)
        assert not list(self.folder.glob("*.part"))
        return refusal.value


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    return Packages(tmp_path)


def test_the_same_content_is_stored_once_whatever_it_is_called(packages: Packages) -> None:
    content = zipped(a=b"1")
    stored = {packages.put(content, name, team) for name in ("_ray_pkg_1.zip", "x.zip") for team in ("vision", "", "c")}
    assert len(stored) == 1
    (only,) = stored
    assert packages.store.path(only.uri).read_bytes() == content
    assert stat.S_IMODE(packages.folder.stat().st_mode) == 0o700


def test_what_was_stored_is_there_after_a_restart_and_what_broke_off_is_not(packages: Packages, tmp_path: Path) -> None:
    stored = packages.put(zipped(a=b"1"))
    (packages.folder / "left.part").write_bytes(b"half")
    again = Packages(tmp_path)
    assert again.store.find("vision", "_ray_pkg_aa.zip") == stored
    assert not (packages.folder / "left.part").exists()


def test_a_wheel_keeps_a_name_that_installers_understand(packages: Packages) -> None:
    from packaging.utils import parse_wheel_filename

    stored = packages.put(zipped(a=b"1"), "my_pkg-1.0+cpu-3-py3-none-any.whl")
    name, version, build, tags = parse_wheel_filename(stored.name)
    assert (name, str(version), len(tags)) == ("my-pkg", "1.0+cpu", 1)
    assert stored.sha256 in "".join(str(part) for part in build) or stored.sha256 in stored.name


def test_the_oldest_unused_go_and_what_a_job_needs_stays(packages: Packages) -> None:
    def put(number: int) -> Stored:
        packages.now += PINNED_S + 1
        return packages.put(zipped(a=os.urandom(900 * 1024)), f"_ray_pkg_{number}.zip")

    kept, old, used = put(0), put(1), put(2)
    packages.needed.add(kept.uri)
    put(3)
    packages.store.find("vision", "_ray_pkg_2.zip")
    put(4)
    there = [packages.store.path(each.uri).exists() for each in (kept, old, used)]
    assert there == [True, False, True]
    assert packages.store.find("vision", "_ray_pkg_1.zip") is None
    total = sum(path.stat().st_size for path in packages.folder.glob("_ray*"))
    assert total <= packages.limits[1]


def test_a_store_that_is_full_of_what_jobs_need_takes_no_more(packages: Packages) -> None:
    for number in range(4):
        packages.needed.add(packages.put(zipped(a=os.urandom(900 * 1024)), f"_ray_pkg_{number}.zip").uri)
    packages.now += PINNED_S + 1
    refusal = packages.refused(zipped(a=os.urandom(900 * 1024)), "_ray_pkg_9.zip")
    assert (refusal.status, refusal.code) == (503, "packages_full")


def test_a_package_that_is_too_large_is_refused_also_when_it_lies_about_its_length(packages: Packages) -> None:
    assert packages.refused(b"x" * (MIB + 1)).status == 413
    upload = packages.store.receive("vision", "a.zip", None)
    with pytest.raises(RefusalError, match=r"access\.upload"):
        for _ in range(20):
            upload.write(b"x" * 65536)
    upload.drop()


@pytest.mark.parametrize(
    "name", ["../x.zip", "/etc/x.zip", "a/b.zip", ".zip", "x.exe", "x", "names", "a.whl", "x" * 300 + ".zip", "a\0.zip"]
)
def test_a_name_that_is_none_is_refused(packages: Packages, name: str) -> None:
    assert packages.refused(zipped(a=b"1"), name).code == "bad_package_name"
    assert packages.store.find("vision", name) is None


def with_mode(mode: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def bomb(size: int) -> bytes:
    """A zip of zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as member:
        for _ in range(size // MIB):
            member.write(bytes(MIB))
    return buffer.getvalue()


def many(count: int) -> bytes:
    """The end of a zip file that says it has that many members."""
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, min(count, 65535), min(count, 65535), count * 46, 0, 0)


UNSAFE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "no zip": ("x.zip", lambda: b"hello"),
    "empty": ("x.zip", lambda: b""),
    "absolute": ("x.zip", lambda: zipped(**{"/etc/passwd": b""})),
    "parent": ("x.zip", lambda: zipped(**{"a/../../b": b""})),
    "parent of another system": ("x.zip", lambda: zipped(**{"..\\b": b""})),
    "drive": ("x.zip", lambda: zipped(**{"C:/b": b""})),
    "link": ("x.zip", lambda: with_mode(stat.S_IFLNK | 0o777)),
    "device": ("x.zip", lambda: with_mode(stat.S_IFCHR | 0o666)),
    "bomb": ("x.zip", lambda: bomb(300 * MIB)),
    "many": ("x.zip", lambda: many(60_000 + MOST_MEMBERS)),
    "no tar": ("x.tar.gz", lambda: b"hello"),
    "cut": ("x.tar.gz", lambda: gzip.compress(tarred(size=4096))[:-20]),
    "tar parent": ("x.tar.gz", lambda: gzip.compress(tarred("../x"))),
    "tar link": ("x.tar.xz", lambda: lzma.compress(tarred(kind=tarfile.SYMTYPE, size=0))),
    "tar hard link": ("x.tar.gz", lambda: gzip.compress(tarred(kind=tarfile.LNKTYPE, size=0))),
    "tar of another kind": ("x.tar.xz", lambda: gzip.compress(tarred())),
    "tar bomb": ("x.tar.gz", lambda: gzip.compress(bytes(20 * MIB))),
}


@pytest.mark.parametrize("what", UNSAFE)
def test_what_is_not_safe_to_unpack_is_refused_with_the_reason(packages: Packages, what: str) -> None:
    name, make = UNSAFE[what]
    if what == "tar bomb":
        # A tar of nothing but zeros is an empty one; it is the ratio of a member that counts.
        header = tarred(size=0)[:512]
        header = header[:124] + b"77777777777\0" + header[136:148] + b" " * 8 + header[156:]
        header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
        content = gzip.compress(header + bytes(MIB))
    else:
        content = make()
    refusal = packages.refused(content, name)
    assert (refusal.status, refusal.code) == (400, "unsafe_package")
    assert refusal.sentence.startswith(f"The package {name} is not accepted: ")


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.tar.gz", gzip.compress(tarred("a/b.py"))), ("x.tgz", gzip.compress(tarred())),
     ("x.tar.xz", lzma.compress(tarred("d/", 0, tarfile.DIRTYPE))), ("x.zip", zipped()), ("x.zip", zipped(a=b"1"))],
    # A gzip file holds the time it was made, which is no part of a test's name.
    ids=["tar.gz", "tgz", "tar.xz", "empty zip", "zip"],
)  # fmt: skip
def test_what_ray_takes_is_taken(packages: Packages, name: str, content: bytes) -> None:
    assert packages.put(content, name).name.endswith(name[1:])


@settings(max_examples=80, deadline=None)
@given(content=st.binary(max_size=300), at=st.integers(0, 200), name=st.sampled_from(["x.zip", "x.tar.gz", "x.tar.xz"]))
def test_whatever_is_uploaded_it_is_looked_at_to_the_end_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, at: int, name: str
) -> None:
    path = tmp_path_factory.mktemp("scan") / "file"
    whole = {"x.zip": zipped(a=b"12345"), "x.tar.gz": gzip.compress(tarred()), "x.tar.xz": lzma.compress(tarred())}[
        name
    ]
    path.write_bytes(whole[:at] + content + whole[at + len(content) :])
    try:
        scan(path, name)
    except UnsafeArchiveError as error:
        assert str(error)

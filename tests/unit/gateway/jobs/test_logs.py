"""Reading the copy of a log while the copier appends to it and cuts it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.shell.job_logs import HEAD_BYTES as COPIERS_HEAD
from autoscaler.shell.job_logs import LogFile
from fabric.gateway.jobs.logs import HEAD_BYTES, KeptLog

MARK = re.compile(rb"\n\[fabric: (\d{15}) bytes are left out here\]\n")


def test_reader_and_copier_agree_where_a_long_log_is_cut() -> None:
    assert HEAD_BYTES == COPIERS_HEAD


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    log = KeptLog(tmp_path / "none.log")
    assert log.read(0) == (b"", 0) and log.all() == b""


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"\n", b"n")), max_size=12),
    reads=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    most=st.integers(1, 50),
)
def test_a_follower_gets_every_byte_once_but_for_what_a_mark_stands_for(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], reads: list[int], most: int
) -> None:
    path = tmp_path_factory.mktemp("logs") / "job" / "attempt-1.log"
    writer, reader = LogFile(path, head=64, tail=64), KeptLog(path, head=64)
    got, position, sent = b"", 0, b"".join(chunks)
    for chunk, count in zip(chunks, reads, strict=False):
        writer.append(chunk)
        for _ in range(count):
            content, position = reader.read(position, most)
            got += content
    while True:
        content, position = reader.read(position, most)
        if not content:
            break
        got += content
    assert position == len(sent)
    if len(sent) <= 64 + 2 * 64:
        assert got == sent
        return
    # Pieces of what was sent, in order, with marks between them.
    rest = sent
    for piece in MARK.split(got)[::2]:
        assert piece in rest
        rest = rest[rest.index(piece) + len(piece) :]
    assert got.startswith(sent[:64]) and got.endswith(sent[-32:])

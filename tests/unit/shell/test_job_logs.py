"""The kept log: what was copied is known from the file alone, and a long log keeps its beginning and its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.shell.job_logs import LogFile, log_file


def test_copying_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "jobs" / "a" / "attempt-1.log"
    LogFile(path).append(b"one\n")
    assert LogFile(path).copied() == 4
    LogFile(path).append(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_was_copied_of_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert LogFile(tmp_path / "none.log").copied() == 0


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=40))
def test_a_long_log_keeps_head_and_tail_and_counts_what_it_leaves_out(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    path, whole = tmp_path_factory.mktemp("log") / "attempt-1.log", b""
    for part in parts:
        LogFile(path, head=100, tail=200).append(part)
        whole += part
        assert LogFile(path, head=100, tail=200).copied() == len(whole)
        kept = path.read_bytes()
        assert kept.startswith(whole[:100])
        assert kept.endswith(whole[-200:])
        assert len(kept) <= 100 + 2 * 200 + 64 + len(part)


@pytest.mark.parametrize("job", ["../../etc", "..", ".", "a/b", "%2e%2e", "\x00"])
def test_no_job_id_leads_out_of_the_folder_of_logs(job: str, tmp_path: Path) -> None:
    path = log_file(tmp_path, job, 1)
    assert path.resolve().is_relative_to(tmp_path / "jobs")
    assert path.parent.parent == tmp_path / "jobs"

"""A running fabric takes good edits, reports bad ones, and never gets worse. Real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fabric.config.problems import Problems
from fabric.config.reload import BadConfigError, ConfigFile, Outcome, read
from fabric.config.schema import Config
from tests.unit.config.texts import GOOD, config, edited


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "fabric.yaml"
    file.write_text(GOOD)
    return file


def test_an_untouched_file_is_unchanged(path: Path) -> None:
    file = ConfigFile(path)
    os.utime(path, (1, 1))
    assert file.poll().outcome is Outcome.UNCHANGED
    assert file.problems == ()


def test_a_good_edit_takes_effect_and_says_what_changed(path: Path) -> None:
    file = ConfigFile(path)
    before = file.digest
    path.write_text(edited("gpus: 4", "gpus: 6"))
    look = file.poll()
    assert (look.outcome, look.changes) == (Outcome.CHANGED, ("burst.baseline[0].gpus changes from 4 to 6",))
    assert file.current.burst.baseline[0].gpus == 6
    assert file.digest == look.digest != before
    assert file.poll().outcome is Outcome.UNCHANGED


def test_an_edit_of_the_same_length_in_the_same_instant_is_seen(path: Path) -> None:
    file = ConfigFile(path)
    stamp = path.stat()
    path.write_text(edited("gpus: 4", "gpus: 5"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file.poll().outcome is Outcome.CHANGED


def test_an_atomic_replacement_is_seen(path: Path) -> None:
    file = ConfigFile(path)
    other = path.with_suffix(".new")
    other.write_text(edited("gpus: 4", "gpus: 6"))
    other.replace(path)
    assert file.poll().outcome is Outcome.CHANGED


def test_a_bad_edit_is_reported_once_and_replaces_nothing(path: Path) -> None:
    file = ConfigFile(path)
    good = file.current
    path.write_text(edited("gpus: 4", "gpu: 4"))
    look = file.poll()
    assert look.outcome is Outcome.REJECTED
    assert [str(problem) for problem in look.problems] == [
        f"{path}:13:8: 'gpu' is not a key that is known in burst.baseline[0]; did you mean 'gpus'?"
    ]
    again = file.poll()
    assert again.outcome is Outcome.UNCHANGED
    assert file.problems == look.problems
    assert (file.current, file.current.burst) == (good, good.burst)


@pytest.mark.parametrize("end", range(1, len(GOOD) - 1, 17))
def test_a_half_written_file_does_no_harm_and_the_whole_one_is_taken(path: Path, end: int) -> None:
    file = ConfigFile(path)
    good = file.current
    wanted = edited("gpus: 4", "gpus: 6")
    path.write_text(wanted[:end])
    file.poll()
    assert file.current == good
    path.write_text(wanted)
    assert file.poll().outcome is Outcome.CHANGED
    assert (file.current.burst.baseline[0].gpus, file.problems) == (6, ())


def test_undoing_a_bad_edit_clears_its_problems(path: Path) -> None:
    file = ConfigFile(path)
    path.write_text("burst: [")
    assert file.poll().outcome is Outcome.REJECTED
    path.write_text(GOOD)
    look = file.poll()
    assert (look.outcome, look.changes, file.problems) == (Outcome.CHANGED, (), ())


def test_a_deleted_file_is_reported_once_and_its_return_is_taken(path: Path) -> None:
    file = ConfigFile(path)
    path.unlink()
    assert file.poll().outcome is Outcome.REJECTED
    assert file.poll().outcome is Outcome.UNCHANGED
    assert "there is no such file" in str(file.problems[0])
    assert file.current.burst.baseline[0].gpus == 4
    path.write_text(edited("gpus: 4", "gpus: 6"))
    assert file.poll().outcome is Outcome.CHANGED
    assert file.problems == ()


def test_what_is_no_plain_file_is_never_opened(path: Path) -> None:
    file = ConfigFile(path)
    path.unlink()
    os.mkfifo(path)
    assert "not a plain file" in str(file.poll().problems[0])
    assert isinstance(read(path.parent), Problems)


def test_a_live_node_type_cannot_be_dropped_until_its_last_machine_is_gone(path: Path) -> None:
    live = {"cloud.small"}
    file = ConfigFile(path, lambda: live)
    path.write_text(edited("small:", "tiny:"))
    look = file.poll()
    assert look.outcome is Outcome.REJECTED
    assert str(look.problems[0]).startswith(
        f"{path}:9:5: the node type cloud.small is gone but machines of it are alive"
    )
    assert "cloud.small" in {f"cloud.{key}" for key in file.current.sites["cloud"].node_types}
    assert file.poll().outcome is Outcome.UNCHANGED
    live.clear()
    assert file.poll().outcome is Outcome.CHANGED
    assert list(file.current.sites["cloud"].node_types) == ["tiny"]


def test_without_a_good_configuration_there_is_no_start(tmp_path: Path) -> None:
    path = tmp_path / "fabric.yaml"
    with pytest.raises(BadConfigError, match="there is no such file"):
        ConfigFile(path)
    path.write_text("sites: {}\n")
    with pytest.raises(BadConfigError, match="'burst' is missing"):
        ConfigFile(path, keep=tmp_path / "kept.yaml")


def test_a_process_that_starts_while_the_file_is_bad_goes_on_with_the_last_good_one(path: Path) -> None:
    keep = path.parent / "state" / "kept.yaml"
    good = ConfigFile(path, live=lambda: (), keep=keep)
    path.write_text("burst: [")
    for live in (None, lambda: ()):
        again = ConfigFile(path, live=live, keep=keep)
        assert again.current == good.current
        assert again.problems
        assert again.poll().outcome is Outcome.UNCHANGED
    path.write_text(edited("gpus: 4", "gpus: 6"))
    assert again.poll().outcome is Outcome.CHANGED
    assert config(keep.read_text()).burst.baseline[0].gpus == 6


def test_a_restart_cannot_drop_a_live_node_type_either(path: Path) -> None:
    keep = path.parent / "kept.yaml"
    live = {"cloud.small"}
    ConfigFile(path, lambda: live, keep)
    path.write_text(edited("small:", "tiny:"))
    file = ConfigFile(path, lambda: live, keep)
    assert list(file.current.sites["cloud"].node_types) == ["small"]
    assert "cloud.small is gone" in str(file.problems[0])
    assert file.poll().outcome is Outcome.UNCHANGED
    live.clear()
    assert file.poll().outcome is Outcome.CHANGED
    assert list(file.current.sites["cloud"].node_types) == ["tiny"]


def test_a_copy_that_cannot_be_kept_is_a_problem_and_not_a_crash(path: Path) -> None:
    keep = path / "below-a-file" / "kept.yaml"
    file = ConfigFile(path, lambda: (), keep)
    assert "the copy of the last good configuration cannot be written" in str(file.problems[0])
    assert file.current.burst.baseline[0].gpus == 4


def test_paths_in_force_are_absolute_also_through_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(path.parent, target_is_directory=True)
    loaded = read(link / "fabric.yaml")
    assert isinstance(loaded, Config)
    assert loaded.fabric.state == ConfigFile(path).current.fabric.state == str(path.parent.resolve() / "state")

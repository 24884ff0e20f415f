"""``fabric validate``: all problems, a short summary, an exit code."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from fabric.cli.validate import validate
from tests.unit.config.texts import GOOD, edited


def test_a_good_file_is_summed_up_and_the_code_is_zero(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(GOOD)
    done = CliRunner().invoke(validate, [str(file)])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:3] == [
        f"{file} is good.",
        "  sites:    home (onprem), cloud (sandbox)",
        "  home:     2 nodes with 16 GPUs",
    ]
    assert "4 GPUs for 5m" in done.stdout


def test_a_bad_file_lists_every_problem_and_the_code_is_one(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(edited("max: 3", "mx: 3", edited("for: 5m", "for: 5")))
    done = CliRunner().invoke(validate, [str(file)])
    assert done.exit_code == 1
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [f"{file}:10:33", f"{file}:13:22"]
    assert done.stderr == f"{file}: 2 problems\n"


def test_json_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(GOOD)
    good = CliRunner().invoke(validate, [str(file), "--json"])
    facts = json.loads(good.stdout)
    assert (good.exit_code, facts["ok"], facts["problems"]) == (0, True, [])
    assert facts["summary"]["home_gpus"] == 16
    file.write_text("burst: [")
    bad = CliRunner().invoke(validate, ["--json", str(file)])
    problem = json.loads(bad.stdout)["problems"][0]
    assert bad.exit_code == 1
    assert set(problem) == {"file", "line", "column", "what", "remedy"}


def test_a_file_that_is_not_there_is_a_problem_of_that_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(validate, [str(tmp_path / "none.yaml")])
    assert (done.exit_code, done.stdout) == (
        1,
        f"{tmp_path / 'none.yaml'}:1:1: there is no such file; write it, or name the right one\n",
    )

"""The command line as a whole: fast, lazy, and never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fabric.cli.exits import MEANINGS, CliError, Exit
from fabric.cli.main import VERBS, cli


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[3]
    return subprocess.run(
        [sys.executable, "-m", "fabric.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), **environment},
        timeout=60,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from fabric.cli.main import cli;"
        "before = set(sys.modules);"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0;"
        "print([name for name in ('rich', 'ray', 'pydantic', 'httpx', 'psutil', 'structlog') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", list(VERBS))
def test_the_table_of_verbs_says_what_each_verb_says_of_itself(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert command.get_short_help_str(200).rstrip(".") == VERBS[verb][1].rstrip(".")


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_and_takes_config_after_it(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"])
    assert shown.exit_code == 0
    assert "--config" in shown.output


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


def test_a_misspelt_verb_is_answered_with_the_nearest() -> None:
    done = run("stats")
    assert done.returncode == Exit.USAGE
    assert "Did you mean status?" in done.stderr


def test_no_configuration_is_a_sentence_with_a_remedy(tmp_path: Path) -> None:
    done = run("status", cwd=tmp_path)
    assert done.returncode == Exit.CONFIG
    assert "neither fabric.yaml nor configs/fabric.yaml" in done.stderr
    assert "--config" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_configuration_is_told_with_every_problem_and_its_place(tmp_path: Path) -> None:
    (tmp_path / "fabric.yaml").write_text("sites: {}\nburst: {baseline: []}\nlissten: {}\n")
    done = run("up", cwd=tmp_path)
    assert done.returncode == Exit.CONFIG
    assert "fabric.yaml:3:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_names_the_configuration(tmp_path: Path) -> None:
    done = run("nodes", cwd=tmp_path, FABRIC_CONFIG="elsewhere.yaml")
    assert done.returncode == Exit.CONFIG
    assert "elsewhere.yaml" in done.stderr


def test_a_mistake_of_ours_is_a_sentence_and_its_traceback_a_file(tmp_path: Path) -> None:
    code = (
        "import fabric.cli.main as m\n"
        "@m.cli.command('broken')\n"
        "def broken(): raise KeyError('x')\n"
        "m.VERBS['broken'] = ('fabric.cli.main:broken', '')\n"
        "m.broken = broken\n"
        "m.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "broken"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin", "TMPDIR": str(tmp_path)},
        cwd=Path(__file__).resolve().parents[3],
        check=False,
    )
    assert done.returncode == Exit.BUG
    assert "Traceback" not in done.stderr
    (report,) = tmp_path.glob("fabric-bug-*.txt")
    assert "KeyError: 'x'" in report.read_text()


def test_an_error_says_what_to_do_on_a_line_of_its_own() -> None:
    error = CliError(Exit.CONFLICT, "the port is taken", "Free it.")
    assert error.format_message().splitlines() == ["the port is taken", "Free it."]
    assert error.exit_code == Exit.CONFLICT


def test_down_where_nothing_ever_ran_is_done_at_once(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[3] / "configs" / "examples" / "demo.yaml"
    config = tmp_path / "fabric.yaml"
    config.write_text(example.read_text().replace("../../state/demo", "state"))
    done = run("down", "--json", "--config", str(config))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"was_up": False})

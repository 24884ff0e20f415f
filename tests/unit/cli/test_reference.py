"""The reference page of the command line says what the command line does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fabric.cli.exits import MEANINGS, Exit
from fabric.cli.main import VERBS, cli
from fabric.cli.reference import text

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "cli.md"


def commands(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    inner = command.commands.items() if isinstance(command, click.Group) else ()
    return [(name, command), *(found for key, sub in inner for found in commands(f"{name} {key}", sub))]


def every_command() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    return [
        found
        for name in VERBS
        if (command := cli.get_command(context, name)) is not None
        for found in commands(f"fabric {name}", command)
    ]


def test_the_page_in_the_repository_is_what_the_code_says() -> None:
    assert PAGE.read_text() == text(), "run: make docs"


@pytest.mark.parametrize("code", list(Exit))
def test_every_exit_code_is_explained(code: Exit) -> None:
    assert f"| {code.value} | {MEANINGS[code]} |" in text()


def test_every_verb_with_every_option_is_on_the_page() -> None:
    sections = dict(re.findall(r"^##+ (fabric [^\n]+)\n(.*?)(?=^##|\Z)", text(), re.M | re.S))
    missing = [
        (name, option)
        for name, command in every_command()
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name != "config"
        for option in parameter.opts
        if option not in sections.get(name, "")
    ]
    assert missing == []
    assert [name for name, _ in every_command() if name not in sections] == []


def test_no_mark_of_click_reaches_the_page() -> None:
    assert "\b" not in text()
    assert "\f" not in text()


def test_the_list_of_verbs_imports_none_of_them() -> None:
    code = "import sys, fabric.cli.main as m; m.cli(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = done.stdout.splitlines()[-1].split()
    heavy = {"pydantic", "ray", "rich", "torch", "sqlite3", "fabric.config.schema", "autoscaler", "structlog"}
    assert heavy & set(loaded) == set()
    assert {name.partition(":")[0] for name, _ in VERBS.values()} & set(loaded) == set()

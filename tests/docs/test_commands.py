"""What the pages and the systemd units tell people to type or to load is held to the code that would take it."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from autoscaler.core.baseline import advance
from autoscaler.core.snapshot import Threshold
from fabric.cli.main import cli
from fabric.config.load import load
from fabric.config.problems import Problems
from fabric.config.schema import Config
from fabric.model.decisions import BaselineState, QueueDepth
from fabric.telemetry.names import METRICS, Kind

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
}
UNITS = sorted((ROOT / "configs" / "systemd").glob("*.service"))
each_page = pytest.mark.parametrize("page", PAGES)
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)

_FENCE = re.compile(r"^([ ]*)```(\w*)\n(.*?)^\1```[ ]*$", re.M | re.S)
# What may stand before `fabric` where people type it.
_TYPED = re.compile(r"^(?:\$ )?(?:sudo (?:-u \w+ )?)?(?:[\w./]*/bin/)?fabric (?P<rest>.+)$")


def blocks(text: str, *languages: str) -> list[str]:
    """The contents of the code blocks in one of ``languages`` (``""`` for none named), without their indent."""
    return [textwrap.dedent(body) for _, language, body in _FENCE.findall(text) if language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `fabric …` that a page shows, in code blocks and in inline code."""
    lines = [line.strip() for block in blocks(text, "", "sh", "bash", "text") for line in block.splitlines()]
    lines += [line.strip() for line in re.findall(r"^(?: {4}|\t)(fabric .*)$", text, re.M)]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _FENCE.sub("", text))]
    for line in lines:
        typed = _TYPED.match(line)
        if typed is not None and "[OPTIONS]" not in line:  # a usage line, generated from the tree itself
            yield _one_command(typed["rest"])


def _one_command(rest: str) -> list[str]:
    lexer = shlex.shlex(rest, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("<>|;&"):
            break
        words.append(word)
    return words


def complaint(arguments: list[str]) -> str:
    """Why the command line would not take ``arguments``; ``""`` if it would. Nothing is run."""
    command: click.Command = cli
    context = click.Context(cli, info_name="fabric")
    try:
        while isinstance(command, click.Group):
            _, left, _ = command.make_parser(context).parse_args(list(arguments))
            if not left:
                return ""
            name, *arguments = left
            found = command.get_command(context, name)
            if found is None:
                return f"there is no verb {name!r}"
            command, context = found, click.Context(found, context, info_name=name)
        _, left, _ = command.make_parser(context).parse_args(list(arguments))
    except click.UsageError as error:
        return error.format_message()
    return f"{' '.join(left)!r} is too much" if left else ""


@each_page
def test_every_fabric_command_on_a_page_is_one_that_the_command_line_takes(page: str) -> None:
    typed = [words for words in commands(PAGES[page]) if words[0] != "VERB"]
    assert {shlex.join(words): why for words in typed if (why := complaint(words))} == {}


def test_the_pages_show_commands_at_all_and_a_wrong_one_would_be_found() -> None:
    assert sum(len(list(commands(text))) for text in PAGES.values()) > 50
    page = "```\nsudo -u fabric /opt/fabric/bin/fabric status --wach  # look\n```\n`fabric nodes join x`, `fabric stop`"
    assert [bool(complaint(words)) for words in commands(page)] == [True, True, True]
    assert complaint(["journal", "show", "--kind", "launch.*", "-n", "3"]) == ""
    assert complaint(["-c", "fabric.yaml", "validate", "one.yaml", "two.yaml"]) != ""


@each_page
def test_every_metric_on_a_page_is_exported(page: str) -> None:
    known = {metric.name for metric in METRICS}
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            known |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
    named = set(re.findall(r"\bfabric_[a-z_]+", PAGES[page]))
    assert named - known == set()


@each_page
def test_every_label_of_a_metric_on_a_page_is_one_it_has(page: str) -> None:
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    used = re.findall(r"\b(fabric_[a-z_]+)\{([^}]*)\}", PAGES[page])
    wrong = {name: inside for name, inside in used if not set(re.findall(r"(\w+)\s*[=!]", inside)) <= labels[name]}
    assert wrong == {}


@each_page
def test_every_path_under_configs_on_a_page_exists(page: str) -> None:
    named = re.findall(r"(?<![\w/.])\(?((?:\.\./)*configs/[\w./-]*[\w/])", PAGES[page])
    assert [name for name in named if not (ROOT / name.replace("../", "")).exists()] == []


@each_page
def test_every_yaml_block_on_a_page_that_has_sites_is_a_good_configuration(page: str) -> None:
    for block in blocks(PAGES[page], "yaml"):
        if not re.search(r"^sites:", block, re.M):
            continue
        # A page about sites may leave out the one other block that a file must have.
        whole = (
            block if re.search(r"^burst:", block, re.M) else f"{block}\nburst:\n  baseline: [{{gpus: 4, for: 5m}}]\n"
        )
        loaded = load(whole.encode(), page)
        assert isinstance(loaded, Config), str(loaded)


def test_a_yaml_block_with_a_mistake_would_be_found() -> None:
    assert isinstance(load(b"sites: {home: {kind: onprem, nodetypes: {}}}\n", "page.md"), Problems)


@each_page
def test_every_yaml_block_on_a_page_is_yaml_and_every_python_block_is_python(page: str) -> None:
    for block in blocks(PAGES[page], "yaml"):
        YAML(typ="safe").load(block)
    for block in blocks(PAGES[page], "python"):
        ast.parse(block)


def test_the_example_timeline_of_the_baseline_is_what_the_baseline_does() -> None:
    page = PAGES["docs/howto/operate.md"]
    rows = re.findall(r"^\| (\d+):(\d\d) \| (\d+) \| (open|closed) \|", page, re.M)
    steps = {int(minutes) * 60 + int(seconds): (int(depth), state) for minutes, seconds, depth, state in rows}
    assert "`baseline: [{gpus: 4, for: 5m}, {gpus: 16, for: 1m}]` and `close_for: 1m`" in page
    thresholds = (Threshold(for_s=300, gpus=4), Threshold(for_s=60, gpus=16))
    baseline, depth, told = BaselineState(), 0, []
    changes = []
    for now in range(max(steps) + 1):
        depth = steps[now][0] if now in steps else depth
        before = baseline.open_since is not None
        baseline = advance(baseline, thresholds, 60, QueueDepth(gpus=depth, cpus=0, requests=depth), now)
        is_open = baseline.open_since is not None
        changes += [now] if is_open is not before else []
        if now in steps:
            told.append((steps[now][1] == "open") is is_open)
    assert len(told) == 8
    assert all(told)
    assert set(changes) <= set(steps)  # each change has a row of its own


@each_unit
def test_every_unit_starts_something_that_exists(unit: Path) -> None:
    (start,) = re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.M)
    typed = _TYPED.match(start)
    if typed is None:
        assert start == "/bin/sh /etc/fabric/join.sh"
    else:
        assert complaint(_one_command(typed["rest"])) == ""


@each_unit
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_to_say_about_a_unit(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/fabric/bin/fabric", "/bin/true"))  # it must exist to be verified
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

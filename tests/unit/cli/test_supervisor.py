"""What supervisord is told, and how a run finds its own processes again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.cli import ports
from fabric.cli.bring_up import prepare
from fabric.cli.context import Context
from fabric.cli.exits import CliError, Exit
from fabric.cli.programs import CONTROLLER, GATEWAY, HEAD, REAPER, Program, environment, local_nodes, programs
from fabric.cli.run_dir import PROGRAM_MARK, RUN_MARK, Record, RunDir, end
from fabric.cli.run_head import command
from fabric.cli.supervisor import Supervisor, render, start
from fabric.config.reload import read
from fabric.config.schema import Config
from tests.conftest import wait_until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def config_path(tmp_path: Path, free_port: Callable[[], int]) -> Path:
    text = (ROOT / "configs" / "examples" / "demo.yaml").read_text().replace("../../state/demo", "state")
    text = re.sub(r"\b(84[23]\d|8275|6399)\b", lambda _: str(free_port()), text)
    path = tmp_path / "fabric.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def config(config_path: Path) -> Config:
    loaded = read(config_path)
    assert isinstance(loaded, Config), str(loaded)
    return loaded


@pytest.fixture
def run(config_path: Path):
    run = RunDir.of(config_path)
    run.create(Record(str(config_path), str(config_path.parent / "state"), 0.0), config_path.read_bytes())
    yield run
    end(run.processes(), grace_s=2)
    run.remove()


def test_every_process_of_the_design_is_under_supervision(config: Config, config_path: Path) -> None:
    names = [program.name for program in programs(config, config_path)]
    assert set(names) == {
        HEAD, GATEWAY, CONTROLLER, REAPER, "sandbox-cloud", "node-home-gpu-1", "node-home-gpu-2",
    }  # fmt: skip
    assert len(names) == len(set(names))


def test_local_nodes_are_named_as_ray_will_know_them(config: Config) -> None:
    assert [node.token for node in local_nodes(config)] == ["onprem/home/gpu-1", "onprem/home/gpu-2"]


def test_the_head_is_started_without_rays_autoscaler_and_on_loopback(config: Config, config_path: Path) -> None:
    arguments = command(config, RunDir.of(config_path))
    assert "--no-monitor" in arguments
    assert "--dashboard-host=127.0.0.1" in arguments
    assert "--num-gpus=0" in arguments


def test_no_secret_is_in_what_supervisord_is_told(config: Config, config_path: Path, run: RunDir) -> None:
    prepare_secret = config_path.parent / "state" / "secrets" / "cluster.token"
    prepare_secret.parent.mkdir(parents=True)
    prepare_secret.write_text("d" * 64)
    text = render(run, config_path.parent, programs(config, config_path), environment(run, config))
    assert "d" * 64 not in text
    assert str(prepare_secret) in text


@given(words=st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12), max_size=4))
def test_a_command_reaches_its_process_as_it_was_written(words: list[str]) -> None:
    import shlex

    run, program = RunDir(Path("/tmp/fabric-test")), Program("x", ("/bin/echo", *words), 1)
    try:
        text = render(run, Path("/var/log/fabric"), [program], {"A": "100%"})
    except CliError as refused:
        assert ";" in refused.message
        assert any(";" in word for word in words)
        return
    parser = RawConfigParser(inline_comment_prefixes=(" ;", "\t;"))
    parser.read_string(text)
    written = parser["program:x"]["command"].replace("%%", "%")
    assert shlex.split(written) == ["/bin/echo", *words]


def test_a_value_that_supervisord_cannot_pass_on_is_refused() -> None:
    with pytest.raises(CliError, match="quotation mark"):
        render(RunDir(Path("/tmp/fabric-test")), Path("/tmp"), [], {"PATH": 'a"b'})


def test_a_program_that_is_killed_comes_back_and_shutdown_leaves_nothing(run: RunDir, tmp_path: Path) -> None:
    conf = tmp_path / "supervisord.conf"
    sleeper = Program("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"), 1)
    conf.write_text(render(run, tmp_path, [sleeper], {RUN_MARK: str(run.root)}))
    start(conf, run, foreground=False)
    supervisor = Supervisor(run)

    def pid() -> int:
        return next((state.pid for state in supervisor.states()), 0)

    first = wait_until(pid, what="the first process")
    os.kill(int(str(first)), 9)
    wait_until(lambda: pid() not in (0, first), what="another process")
    wait_until(lambda: {process.pid for process in run.processes("sleeper")} == {pid()}, what="its mark")
    assert supervisor.shutdown()
    wait_until(lambda: not run.processes(), what="the end of all processes")


def test_processes_are_found_by_their_mark_with_everything_below_them(run: RunDir) -> None:
    code = "import subprocess, sys; subprocess.run(['env', '-i', sys.executable, '-c', 'import time; time.sleep(600)'])"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env={RUN_MARK: str(run.root), PROGRAM_MARK: "x"}, start_new_session=True
    )
    wait_until(lambda: len(run.processes()) == 2, what="parent and child")
    assert {process.pid for process in run.processes("x")} >= {parent.pid}
    assert run.processes("y") == []
    assert end(run.processes(), grace_s=5) == []
    parent.wait()
    assert run.processes() == []


def test_a_run_directory_that_others_can_read_is_refused(config_path: Path) -> None:
    run = RunDir.of(config_path)
    run.root.mkdir(mode=0o755)
    try:
        with pytest.raises(CliError) as refused:
            run.create(Record("", "", 0.0), b"")
        assert refused.value.exit_code == Exit.CONFLICT
    finally:
        run.root.rmdir()


def test_up_is_refused_while_a_port_is_taken_and_says_which_key_it_is(config_path: Path, config: Config) -> None:
    import socket

    host, _, number = config.listen.gateway.rpartition(":")
    with socket.socket() as taken:
        taken.bind((host, int(number)))
        taken.listen()
        with pytest.raises(CliError) as refused:
            prepare(Context(config_path))
    assert refused.value.exit_code == Exit.CONFLICT
    assert f"{host}:{number} (listen.gateway): it is taken by" in refused.value.message
    assert not RunDir.of(config_path).root.exists()


def test_two_keys_that_want_one_port_are_named(config: Config) -> None:
    listen = config.listen.model_copy(update={"reaper": config.listen.gateway})
    found = ports.problems(ports.needed(config.model_copy(update={"listen": listen})))
    assert found == [f"listen.reaper and listen.gateway both want {config.listen.gateway}"]


def test_secrets_are_made_before_anything_starts_and_only_for_their_owner(config_path: Path) -> None:
    prepared = prepare(Context(config_path))
    try:
        secrets = config_path.parent / "state" / "secrets"
        token = secrets / "cluster.token"
        assert len(bytes.fromhex(token.read_text())) == 32
        assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o600}
        assert (secrets.stat().st_mode & 0o777, prepared.run.root.stat().st_mode & 0o777) == (0o700, 0o700)
        assert len(str(prepared.run.socket)) < 100
    finally:
        prepared.run.remove()

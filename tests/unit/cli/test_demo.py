"""The demo's parts: a place of its own, what it reads from the job, what it shows."""

from __future__ import annotations

import io
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fabric.cli.demo_config import EXAMPLE, make_place
from fabric.cli.demo_job import Progress
from fabric.cli.demo_view import DemoView, nodes_in_words, thresholds
from fabric.cli.exits import CliError, Exit
from fabric.cli.run_dir import RUN_MARK, RunDir
from fabric.config.reload import read
from fabric.config.schema import Config
from fabric.journal.base import Entry
from fabric.model.events import Event

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / EXAMPLE).parent.mkdir(parents=True)
    (tmp_path / EXAMPLE).write_text((ROOT / EXAMPLE).read_text())
    return tmp_path


def node(site: str, name: str, phase: str, market: str = "owned", **more: Any) -> dict[str, Any]:
    return {
        "site": site, "instance": f"onprem/{site}/{name}", "node_type": f"{site}.x", "phase": phase, "market": market,
        "is_head": False, "gpus": 2.0, "gpus_free": 1.0, "idle_s": 0.0, "per_hour_micro_usd": 360_000, **more,
    }  # fmt: skip


STATUS: dict[str, Any] = {
    "queue": {"gpus": 30.0, "cpus": 0.0, "requests": 30},
    "baseline": {
        "open": True,
        "thresholds": [{"gpus": 3.0, "cpus": 0.0, "for_s": 2.0}, {"gpus": 12.0, "cpus": 8.0, "for_s": 0.0}],
    },
    "spend_per_hour_micro_usd": 720_000,
    "nodes": [
        node("cloud", "b", "requested", "spot"),
        node("cloud", "c", "running", "spot"),
        node("home", "a", "running"),
        node("home", "head", "running", is_head=True),
    ],
}


def test_the_demo_runs_the_example_with_its_state_in_a_place_of_its_own(clone: Path) -> None:
    config = read(make_place(clone))
    assert isinstance(config, Config), str(config)
    assert Path(config.fabric.state) == clone / "state" / "demo"
    assert config.fabric.journal == f"sqlite:{clone / 'state' / 'demo' / 'journal.db'}"


def test_a_port_that_is_taken_is_replaced_and_the_others_stay(clone: Path) -> None:
    before = read(clone / EXAMPLE)
    assert isinstance(before, Config)
    with socket.socket() as taken:
        host, _, number = before.listen.reaper.rpartition(":")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, int(number)))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        after = read(make_place(clone))
    assert isinstance(after, Config)
    assert after.listen.reaper != before.listen.reaper
    assert after.sites.keys() == before.sites.keys()


def test_what_an_earlier_demo_left_is_removed(clone: Path) -> None:
    journal = make_place(clone).parent / "journal.db"
    journal.write_text("old")
    make_place(clone)
    assert not journal.exists()


def test_a_demo_that_runs_is_not_disturbed(clone: Path) -> None:
    import subprocess

    run = RunDir.of(make_place(clone))
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={RUN_MARK: str(run.root)})
    try:
        deadline = time.monotonic() + 10
        while not run.processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(CliError, match="a demo runs in") as refused:
            make_place(clone)
        assert refused.value.exit_code == Exit.CONFLICT
    finally:
        sleeper.kill()
        sleeper.wait()


def test_progress_is_read_from_what_the_job_prints() -> None:
    job = Progress()
    for line in (
        "Running entrypoint for job raysubmit_x: python sweep.py",
        "sweep: 40 trials wait for 1 GPU each",
        "sweep: 1/40 trial 7 accuracy 0.9826 in 3.8 s on home node c4c69b96",
        "sweep: 2/40 trial 2 accuracy 0.9896 in 3.8 s on cloud node ca6e5a59",
        "sweep: 3/40 trial 9 accuracy 0.9000 in 3.8 s on cloud node ca6e5a59",
        json.dumps({"test_accuracy": 0.98, "trials": 3}),
    ):
        job.take(line)
    assert (job.done, job.trials, job.best) == (3, 40, 0.9896)
    assert dict(job.per_site) == {"home": 1, "cloud": 2}
    assert job.result == {"test_accuracy": 0.98, "trials": 3}


def test_the_baseline_and_the_nodes_in_words() -> None:
    assert thresholds(STATUS) == "3 GPUs for 2 s, or 12 GPUs and 8 CPUs at once"
    assert nodes_in_words(STATUS) == "home 1 running; cloud 1 booting, 1 running"


def test_without_a_terminal_each_event_is_one_line_and_said_once() -> None:
    out = io.StringIO()
    view = DemoView(Console(file=out, force_terminal=False, width=200), time.monotonic())
    job = Progress()
    bought = Entry(
        7, 1.0, "controller", Event.DECISION, {"sentences": ["Buying 1 x cloud.x. Why.", "Not buying."]}, "", ""
    )
    for _ in range(3):
        view.decided([bought])
        view.update(STATUS, job, spent=5)
    lines = [line.split("] ", 1)[1] for line in out.getvalue().splitlines()]
    assert [line.partition(":")[0] for line in lines] == [
        "queue",
        "the queue crossed the baseline",
        "decision",
        "nodes",
    ]
    assert lines[2] == "decision: Buying 1 x cloud.x. Why."


def test_the_live_view_shows_queue_decision_nodes_and_job() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140)
    view, job = DemoView(console, time.monotonic()), Progress()
    job.take("sweep: 10/40 trial 7 accuracy 0.9826 in 3.8 s on home node c4c69b96")
    view.decided([Entry(7, 1.0, "c", Event.DECISION, {"sentences": ["Buying 1 x cloud.x. Why."]}, "", "")])
    view.update(STATUS, job, spent=5)
    console.print(view.draw())
    shown = out.getvalue()
    for words in ("30 GPUs wanted", "BURST OPEN", "Buying 1 x cloud.x", "booting", "10/40 trials", "$0.72 per hour"):
        assert words in shown

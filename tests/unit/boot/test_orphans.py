"""What a dead raylet leaves running is ended with its node: the work of a lost attempt goes on nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from autoscaler.boot.orphans import Undertaker
from tests.conftest import wait_until

AGENT = """
import subprocess, sys, time
from autoscaler.boot import orphans
assert orphans.adopt()
child = "setsid sh -c 'trap \\"\\" TERM; echo $$ > " + sys.argv[1] + "; sleep 600' & sleep 600"
parent = subprocess.Popen(["sh", "-c", child])
sys.stdin.readline()
parent.kill(); parent.wait()
sys.stdin.readline()
print(orphans.end_all())
"""


def test_a_process_whose_parents_are_dead_is_ended_with_the_agent(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert agent.stdin is not None
    try:
        pid = int(wait_until(lambda: told.exists() and told.read_text().strip(), what="the grandchild"))
        agent.stdin.write("\n")
        agent.stdin.flush()
        wait_until(lambda: psutil.Process(pid).ppid() == agent.pid, what="the orphan to be adopted")
        output, _ = agent.communicate("\n", timeout=20)
        assert int(output) >= 1
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    finally:
        agent.kill()
        agent.wait()


def test_an_orphan_that_has_ended_leaves_the_process_table_and_nobodys_own_child_is_taken() -> None:
    orphan, own = subprocess.Popen(["true"]), subprocess.Popen(["sh", "-c", "exit 7"])
    for process in (orphan, own):
        wait_until(lambda p=process: psutil.Process(p.pid).status() == psutil.STATUS_ZOMBIE, what="its end")
    undertaker = Undertaker(patience_s=5.0)
    undertaker.bury(0.0, own=(own.pid,))
    assert psutil.pid_exists(orphan.pid), "whoever started it may still ask"
    undertaker.bury(5.0, own=(own.pid,))
    assert not psutil.pid_exists(orphan.pid)
    assert own.wait() == 7
    orphan.wait()

"""The longest ``ray.temp_dir`` is the one under which every socket that Ray makes has a path the kernel takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fabric.cli.run_dir import RunDir
from fabric.config.rules import LONGEST_TEMP_DIR

# What Ray puts into a session's folder: its dashboard's processes are all found, and the checks are Ray's own.
LONGEST_OF_RAY = """
from ray._private.utils import validate_socket_filepath
from ray.dashboard.subprocesses.module import SubprocessModule
from ray.dashboard.subprocesses.utils import get_socket_path
from ray.dashboard.utils import get_all_modules
def fits(temp_dir):
    session = temp_dir + "/session_2026-01-01_00-00-00_000000_4194304/sockets"
    own_node = temp_dir + "/n99/session_2026-01-01_00-00-00_000000_4194304/sockets"
    try:
        for module in get_all_modules(SubprocessModule):
            get_socket_path(session, module.__name__)
        for name in ("plasma_store.99", "raylet.99"):
            validate_socket_filepath(session + "/" + name)
            validate_socket_filepath(own_node + "/" + name)
    except OSError:
        return False
    return True
print(max(length for length in range(1, 107) if fits("x" * length)))
"""


def test_it_is_as_long_as_rays_own_check_allows() -> None:
    done = subprocess.run([sys.executable, "-c", LONGEST_OF_RAY], capture_output=True, text=True, check=True)
    assert int(done.stdout) == LONGEST_TEMP_DIR


def test_the_folder_that_is_used_without_one_is_short_enough() -> None:
    run = RunDir.of(Path("/home/somebody/with/a/long/path/" + "x" * 200) / "fabric.yaml")
    assert len(str(run.ray)) <= LONGEST_TEMP_DIR
    assert re.fullmatch(r"/tmp/fabric-[0-9a-f]{10}/ray", str(run.ray))

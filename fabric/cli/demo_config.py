"""Where a demo runs: a directory of its own, with the example configuration and ports that are free now."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

from fabric.cli import ports
from fabric.cli.exits import CliError, Exit
from fabric.cli.run_dir import RunDir
from fabric.cli.supervisor import Supervisor

EXAMPLE = Path("configs/examples/demo.yaml")
JOB_DIR = Path("jobs")
PLACE = Path("state/demo")


def repository() -> Path:
    """The folder with the example configuration and the jobs: this one, or the one the package is in.

    Raises:
        CliError: neither has them.
    """
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (folder / EXAMPLE).exists() and (folder / JOB_DIR / "sweep.py").exists():
            return folder
    raise CliError(
        Exit.CONFIG,
        f"there is no {EXAMPLE} here",
        "Run the demo in a clone of the repository; the example configuration and the job are files of it.",
    )


def make_place(folder: Path) -> Path:
    """Make the demo's directory anew, without what an earlier demo left in it; returns its configuration file.

    Raises:
        CliError: a demo runs there.
    """
    place = folder / PLACE
    config = place / "fabric.yaml"
    run = RunDir.of(config)
    if Supervisor(run).is_up() or run.processes():
        raise CliError(
            Exit.CONFLICT, f"a demo runs in {place}, or was killed there", f"End it with: fabric down -c {config}"
        )
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700, parents=True)
    config.write_text(_text((folder / EXAMPLE).read_text()))
    return config


def _text(example: str) -> str:
    """The example with its state beside it, and every port that is taken now replaced by a free one."""
    from ruamel.yaml import YAML

    yaml = YAML()
    document: dict[str, Any] = yaml.load(example)
    document["fabric"].update(state=".", journal="sqlite:journal.db")
    ray = document.setdefault("ray", {})
    if ports.why_not("127.0.0.1", int(ray.get("port", 6379))):
        ray["port"] = ports.free_port()
    for block, key in (
        *((document.setdefault("listen", {}), name) for name in ("gateway", "controller", "reaper")),
        (ray, "dashboard"),
        *((site, "endpoint") for site in document["sites"].values() if site["kind"] == "sandbox"),
    ):
        if key in block:
            host, _, number = str(block[key]).rpartition(":")
            if ports.why_not(host, int(number)):
                block[key] = f"{host}:{ports.free_port()}"
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()

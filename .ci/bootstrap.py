"""Make the virtual environment ``.venv`` and put the locked dependencies in it. Standard library only.

Run by ``make setup``. pip installs under constraints exported from ``uv.lock``, rather than ``uv sync``, because pip
also honours a local CPU build of torch (``PIP_FIND_LINKS``), where uv would fetch gigabytes of CUDA wheels.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PIP = "26.2"
UV = "0.13.8"


def main() -> int:
    """Create or complete ``.venv``; returns the exit status."""
    if sys.version_info[:2] not in {(3, 11), (3, 12), (3, 13)}:
        found = ".".join(map(str, sys.version_info[:3]))
        print(
            f"Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is {found}. Run: make PYTHON=python3.11 setup",
            file=sys.stderr,
        )
        return 1
    if not PYTHON.exists():
        make_venv()
    say("installing the locked dependencies into .venv (a few minutes the first time)")
    pip("install", "--upgrade", f"pip>={PIP}", f"uv=={UV}")
    constraints = VENV / "constraints.txt"
    run(
        str(VENV / "bin" / "uv"),
        "export",
        "--quiet",
        "--frozen",
        "--no-hashes",
        "--no-emit-project",
        "--all-extras",
        "--all-groups",
        "--no-annotate",
        "--no-header",
        "--format",
        "requirements-txt",
        "-o",
        str(constraints),
    )
    pip("install", "--constraint", str(constraints), "--group", "dev", "--editable", f"{ROOT}[jobs]")
    return 0


def make_venv() -> None:
    """A virtual environment with pip, also where Debian has split ``ensurepip`` off into python3-venv."""
    say("making .venv")
    try:
        import ensurepip  # noqa: F401 - only asks whether it is there
    except ImportError:
        run(sys.executable, "-m", "venv", "--without-pip", str(VENV))
        with tempfile.TemporaryDirectory() as scratch:
            wheel = download_pip(Path(scratch))
            run(str(PYTHON), f"{wheel}/pip", "install", "--quiet", str(wheel))
    else:
        run(sys.executable, "-m", "venv", str(VENV))


def download_pip(folder: Path) -> Path:
    """Fetch pip's own wheel from the package index (PEP 503), checked against the digest the index states."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    page = fetch(index).decode()
    links = re.findall(r'href="([^"#]*/)?(pip-(\d+)\.(\d+)(?:\.(\d+))?-py3-none-any\.whl)#sha256=([0-9a-f]{64})"', page)
    if not links:
        raise SystemExit(f"{index} lists no wheel of pip; install Debian's python3-venv, or set PIP_INDEX_URL")
    base, name, *_, digest = max(links, key=lambda link: tuple(int(part or 0) for part in link[2:5]))
    content = fetch(urllib.parse.urljoin(index, base + name))
    if hashlib.sha256(content).hexdigest() != digest:
        raise SystemExit(f"{base}{name} does not have the digest that the index states; nothing was installed")
    path = folder / name
    path.write_bytes(content)
    return path


def fetch(url: str) -> bytes:
    """The content at ``url``."""
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - the configured package index
        return answer.read()


def pip(*arguments: str) -> None:
    """Run the environment's pip."""
    run(str(PYTHON), "-m", "pip", "--disable-pip-version-check", arguments[0], "--quiet", *arguments[1:])


def run(*command: str) -> None:
    """Run a command; end with a sentence if it fails."""
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise SystemExit(f"make setup stopped: this command failed, its message is above:\n  {' '.join(command)}")


def say(text: str) -> None:
    """One line of progress."""
    print(f"[setup] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

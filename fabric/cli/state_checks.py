"""What else ``fabric doctor`` looks at: the state directory, the cluster token, the journal, names and namespaces."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from fabric.cli.checks import FAIL, OK, WARN, Check, Finding
from fabric.cli.context import Context
from fabric.cli.programs import sandbox_sites, token_path, user_token_path
from fabric.cli.run_dir import RunDir

OUR_PACKAGES = ("fabric", "autoscaler")
QUICK_ENTRIES = 2_000
# What a machine of the sandbox does first: CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID and CLONE_NEWNET of unshare(2).
_UNSHARE = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); r = c.unshare(0x64020000); \
print(os.strerror(ctypes.get_errno()) if r else '', end='')"


def names_on_the_path(_context: Context) -> Iterator[Finding]:
    """No other package on Python's search path has a name of ours: in front of us it would be imported instead."""
    root = Path(__file__).resolve().parents[2]
    for name in OUR_PACKAGES:
        ours_seen = False
        for place in sys.path:
            spec = PathFinder.find_spec(name, [place])
            if spec is None or spec.origin is None:
                continue
            found = Path(spec.origin).resolve()
            if found.is_relative_to(root / name):
                ours_seen = True
                continue
            yield Finding(
                "import name",
                WARN if ours_seen else FAIL,
                f"{found} is another package called {name}, "
                + ("behind ours on Python's search path" if ours_seen else "in front of ours"),
                "Remove it, or take its folder out of PYTHONPATH: a process started elsewhere may import it.",
            )


def state_directory(context: Context) -> Iterator[Finding]:
    """The state directory is this user's, and nobody else looks into it."""
    place = context.state_dir
    if not place.exists():
        yield Finding("state directory", OK, f"{place} is not there yet; fabric up makes it")
        return
    found = place.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield Finding("state directory", FAIL, f"{place} is not a directory", "Move it away, or name another.")
    elif found.st_uid != os.geteuid():
        yield Finding(
            "state directory", FAIL, f"{place} belongs to user {found.st_uid}", f"Run: chown -R {os.geteuid()} {place}"
        )
    elif mode & 0o022:
        yield Finding(
            "state directory", FAIL, f"{place} is {mode:04o}: others may write to it", f"Run: chmod 0700 {place}"
        )
    elif mode & 0o055:
        yield Finding(
            "state directory", WARN, f"{place} is {mode:04o}: others may read in it", f"Run: chmod 0700 {place}"
        )
    else:
        yield Finding("state directory", OK, f"{place} is {mode:04o}")


def cluster_token(context: Context) -> Iterator[Finding]:
    """The token of the Ray cluster is there once the fabric has been started, and this shell has a good one."""
    path = token_path(context.state_dir)
    if not path.exists():
        if RunDir.of(context.config_path).record() is None:
            yield Finding("cluster token", OK, "none yet; fabric up makes it")
        else:
            yield Finding(
                "cluster token", FAIL, f"{path} is gone while the fabric is up", "Run: fabric down, then fabric up."
            )
        return
    token = path.read_text(errors="replace").strip()
    if not token or any(char.isspace() or not char.isprintable() for char in token):
        yield Finding(
            "cluster token",
            FAIL,
            f"{path} holds no token",
            f"Run: fabric down; rm {path}; fabric up makes a new one.",
        )
        return
    own = user_token_path(context.state_dir)
    elsewhere = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    other = os.environ.get("RAY_AUTH_TOKEN", "")
    known = any(_same_file(Path(elsewhere), file) for file in (own, path))
    # Tokens of users are known to the gateway alone; one that expired is refused there, with a sentence.
    if (other and other != token and not other.startswith("fab_")) or (not other and elsewhere and not known):
        variable = "RAY_AUTH_TOKEN" if other else "RAY_AUTH_TOKEN_PATH"
        yield Finding(
            "cluster token",
            WARN,
            f"{variable} of this shell names another token, so its ray command cannot talk to this fabric",
            f"Run: unset RAY_AUTH_TOKEN; export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={own}",
        )
    else:
        yield Finding("cluster token", OK, f"in {path}")


def journal(context: Context) -> Iterator[Finding]:
    """The newest entries of the journal are as they were written."""
    from fabric.journal import chain
    from fabric.journal.base import Head

    if not context.journal_path.exists():
        yield Finding("journal", OK, "none yet; fabric up makes it")
        return
    with context.journal() as store:
        last = store.last_seq()
        start = chain.EMPTY
        if last > QUICK_ENTRIES:
            before = next(store.read(after=last - QUICK_ENTRIES - 1, limit=1))
            start = Head(before.seq, before.hash)
        broken = chain.verify((chain.stored(entry) for entry in store.read(after=start.seq)), start=start)
    if broken is not None:
        yield Finding(
            "journal",
            FAIL,
            f"broken at entry {broken.seq}: {broken.problem}",
            "Stop the fabric and restore the journal from a copy; fabric journal verify looks at all of it.",
        )
    elif start.seq:
        yield Finding(
            "journal", OK, f"the newest {last - start.seq} of {last} entries are whole; fabric journal verify: all"
        )
    else:
        yield Finding("journal", OK, f"all {last} entries are whole")


def network_namespaces(context: Context) -> Iterator[Finding]:
    """Where a sandbox site wants namespaces: root, the command ip, and a kernel that lets us."""
    wanted = [name for name, site in sandbox_sites(context.config).items() if site.network.mode == "namespaces"]
    if not wanted:
        return
    remedy = "or set network: {mode: host} for this site."
    where = ", ".join(wanted)
    problems = 0
    if os.geteuid() != 0:
        problems += 1
        yield Finding("namespaces", FAIL, f"site {where} needs root, and this is not root", f"Start as root, {remedy}")
    if shutil.which("ip") is None:
        problems += 1
        yield Finding("namespaces", FAIL, f"site {where} needs the command ip", f"Install iproute2, {remedy}")
    refused = _why_no_namespace()
    if refused and os.geteuid() == 0:
        problems += 1
        yield Finding(
            "namespaces",
            FAIL,
            f"site {where} needs unshare(2), and the kernel says: {refused}",
            f"Give this container CAP_SYS_ADMIN and CAP_NET_ADMIN, {remedy}",
        )
    if not problems:
        yield Finding("namespaces", OK, f"site {where} can have them")


STATE_CHECKS: tuple[Check, ...] = (names_on_the_path, state_directory, cluster_token, journal, network_namespaces)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _why_no_namespace() -> str:
    """What the kernel answers a process of its own that asks for namespaces; ``""`` if it gets them."""
    done = subprocess.run([sys.executable, "-ISc", _UNSHARE], capture_output=True, text=True, check=False, timeout=60)
    return (
        done.stdout or (done.stderr.strip().splitlines() or ["it was killed"])[-1] if done.returncode else done.stdout
    )

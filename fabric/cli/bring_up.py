"""Bringing a whole fabric up on this machine, and waiting until every part of it says that it is well."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fabric.cli import ports
from fabric.cli.context import Context, get_json
from fabric.cli.exits import CliError, Exit
from fabric.cli.programs import (
    LocalNode,
    environment,
    local_nodes,
    programs,
    sandbox_sites,
    token_path,
    user_token_path,
)
from fabric.cli.run_dir import Record, RunDir
from fabric.cli.steps import Steps
from fabric.cli.supervisor import Supervisor, render, start
from fabric.config.schema import Config

HEAD_STEP = "Ray head"
NODES_STEP = "your own nodes"
_TICK_FRESH_S = 5.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything ``launch`` needs, checked: nothing is in the way."""

    context: Context
    config: Config
    run: RunDir
    conf: Path
    log_dir: Path


def prepare(context: Context) -> Prepared:
    """Check that the fabric can be started here, and write what it will be started from.

    Raises:
        CliError: something is in the way; nothing was started.
    """
    config, run = context.config, RunDir.of(context.config_path)
    state = Path(config.fabric.state)
    _refuse_if_running(run)
    _make_networks(config, context.config_path)
    _refuse_taken_ports(config)
    conf, log_dir = state / "run" / "supervisord.conf", state / "log"
    try:
        for directory in (state, conf.parent, log_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_secrets(state)
        _make_user_token(config, context.config_path)
        run.create(Record(str(context.config_path), str(state), time.time()), context.config_path.read_bytes())
        text = render(run, log_dir, programs(config, context.config_path), environment(run, config))
        conf.touch(mode=0o600)
        conf.write_text(text)
    except OSError as error:
        raise CliError(
            Exit.CONFLICT,
            f"{error.filename or state} cannot be written: {error.strerror}",
            "The state directory (fabric.state in the configuration) must be a place this user may write to.",
        ) from error
    return Prepared(context, config, run, conf, log_dir)


def launch(prepared: Prepared, *, foreground: bool = False) -> subprocess.Popen[bytes] | None:
    """Start supervisord, which starts the rest; its process with ``foreground``."""
    return start(prepared.conf, prepared.run, foreground=foreground)


def await_healthy(prepared: Prepared, steps: Steps, timeout_s: float) -> None:
    """Wait until the head, the gateway, the sandbox, the controller, the reaper and every local node are up.

    Raises:
        CliError: one of them is not after ``timeout_s``; the sentence names it and the end of its log.
    """
    config = prepared.config
    parts: dict[str, Callable[[], str | None]] = {
        HEAD_STEP: lambda: _head_answers(config),
        "gateway": lambda: _serves(f"{ports.gateway_url(config)}/healthz"),
        **{
            f"sandbox cloud {name}": (lambda endpoint=site.endpoint: _serves(f"http://{endpoint}/healthz"))
            for name, site in sandbox_sites(config).items()
        },
        "controller": lambda: _ticks(config),
        "reaper": lambda: _serves(f"http://{config.listen.reaper}/healthz"),
    }
    nodes = local_nodes(config)
    if nodes:
        parts[NODES_STEP] = lambda: _nodes_are_up(prepared.context, nodes)
    deadline = time.monotonic() + timeout_s
    supervisor = Supervisor(prepared.run)
    for name in parts:
        steps.doing(name)
    while True:
        for name, check in parts.items():
            if not steps.is_done(name):
                detail = check()
                if detail is not None:
                    steps.done(name, detail)
        missing = [name for name in parts if not steps.is_done(name)]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise CliError(Exit.FAILED, _what_is_wrong(missing, supervisor, prepared, timeout_s))
        time.sleep(0.25)


def ray_environment(config: Config) -> dict[str, str]:
    """What a shell needs so that the unmodified ``ray`` command line talks to this fabric."""
    return {
        "RAY_API_SERVER_ADDRESS": ports.gateway_url(config),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(user_token_path(Path(config.fabric.state))),
    }


def _refuse_if_running(run: RunDir) -> None:
    if Supervisor(run).is_up():
        raise CliError(
            Exit.CONFLICT, "this fabric is already up", "See it with: fabric status. Stop it with: fabric down"
        )
    left = run.processes()
    if left:
        named = ", ".join(f"{process.pid}" for process in left[:8])
        raise CliError(
            Exit.CONFLICT,
            f"{len(left)} processes of an earlier run are still there ({named})",
            "End them, and whatever they rent, with: fabric down",
        )


def _make_networks(config: Config, config_path: Path) -> None:
    """Bridges of sandbox sites in namespaces: the head and the gateway listen on them, so they come first."""
    for name, site in sandbox_sites(config).items():
        if site.network.mode != "namespaces":
            continue
        command = [sys.executable, "-m", "autoscaler.sandbox.main", "--config", str(config_path), "--site", name]
        made = subprocess.run([*command, "--make-network"], check=False, capture_output=True, text=True, timeout=60)
        if made.returncode:
            raise CliError(
                Exit.CONFLICT,
                f"the network of site {name} cannot be made: {made.stderr.strip()}",
                f"Run as root, or write sites.{name}.network.mode: host. Nothing was started.",
            )


def _refuse_taken_ports(config: Config) -> None:
    taken = ports.problems(ports.needed(config))
    if taken:
        raise CliError(
            Exit.CONFLICT,
            "these addresses cannot be listened on:\n" + "\n".join(f"  {problem}" for problem in taken),
            "Stop what has them, or write other ports into the configuration. Nothing was started.",
        )


def _make_secrets(state: Path) -> None:
    from autoscaler.boot.trust import cluster_token_file
    from fabric.gateway.credentials import Credentials

    cluster_token_file(state)
    Credentials(state)
    os.chmod(state / "secrets", 0o700)  # noqa: PTH101


def _make_user_token(config: Config, config_path: Path) -> None:
    """A token for whoever starts the fabric, so that the jobs of this machine's operator are somebody's, too."""
    from fabric.identity.issue import first_operator_token
    from fabric.journal.base import JournalUnavailableError
    from fabric.journal.stores import open_journal

    try:
        journal = open_journal(config.fabric.journal, "up", config_path.parent)
        try:
            first_operator_token(Path(config.fabric.state), journal, getpass.getuser())
        finally:
            journal.close()
    except JournalUnavailableError as error:
        raise CliError(Exit.UNAVAILABLE, str(error), "Nothing was started.") from error


def _head_answers(config: Config) -> str | None:
    token = token_path(Path(config.fabric.state)).read_text().strip()
    answer = get_json(f"http://{config.ray.dashboard}/api/version", headers={"Authorization": f"Bearer {token}"})
    return None if answer is None else f"Ray {answer.get('ray_version')} on {config.ray.address}:{config.ray.port}"


def _serves(url: str) -> str | None:
    answer = get_json(url, timeout_s=1.0)
    return None if answer is None else url.removesuffix("/healthz")


def _ticks(config: Config) -> str | None:
    answer = get_json(f"http://{config.listen.controller}/healthz", timeout_s=1.0)
    if answer is None or time.time() - float(answer.get("last_tick") or 0) > _TICK_FRESH_S:
        return None
    return f"http://{config.listen.controller}"


def _nodes_are_up(context: Context, nodes: tuple[LocalNode, ...]) -> str | None:
    """From the controller, which has it from Ray; until it answers, nobody knows."""
    status = context.controller_status(timeout_s=2.0) or {}
    up = {node.get("instance") for node in status.get("nodes", []) if node.get("phase") == "running"}
    if any(node.token not in up for node in nodes):
        return None
    return ", ".join(node.node for node in nodes)


def _what_is_wrong(missing: list[str], supervisor: Supervisor, prepared: Prepared, timeout_s: float) -> str:
    lines = [f"after {timeout_s:.0f} s these do not answer: {', '.join(missing)}"]
    for process in supervisor.states():
        if not process.running:
            log = prepared.log_dir / f"{process.name}.log"
            lines.append(f"  {process.name} is {process.state}: {last_line(log) or process.detail}")
    lines.append(f"Their logs are in {prepared.log_dir}")
    return "\n".join(lines)


def last_line(log: Path) -> str:
    """The last line with something on it in a log; ``""`` if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1] if lines else ""

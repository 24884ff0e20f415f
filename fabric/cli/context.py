"""What a verb works with: the configuration, the state directory, the journal and the running controller."""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabric.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from fabric.config.problems import Problems
    from fabric.config.schema import Config
    from fabric.journal.base import Journal

DEFAULT_CONFIGS = (Path("fabric.yaml"), Path("configs/fabric.yaml"))


class Context:
    """Loads each thing when it is first asked for, and says in a sentence why it cannot.

    Args:
        given: the path after ``--config``; None looks at the default places.
    """

    def __init__(self, given: Path | None) -> None:
        self._given = given

    @cached_property
    def config_path(self) -> Path:
        """Absolute path of the configuration file.

        Raises:
            CliError: there is none.
        """
        candidates = (self._given,) if self._given is not None else DEFAULT_CONFIGS
        for path in candidates:
            if path.exists():
                return Path(os.path.abspath(path))  # noqa: PTH100 - keeps links as the user wrote them
        if self._given is not None:
            raise CliError(
                Exit.CONFIG, f"there is no file {self._given}", "Give the path of a fabric.yaml after --config."
            )
        raise CliError(
            Exit.CONFIG,
            f"there is no configuration: neither {' nor '.join(map(str, DEFAULT_CONFIGS))} is in {Path.cwd()}",
            "Give the path of one after --config, or in FABRIC_CONFIG; configs/examples has some to begin with.",
        )

    @cached_property
    def config(self) -> Config:
        """The configuration, with absolute paths.

        Raises:
            CliError: it has problems; all of them are in the sentence.
        """
        from fabric.config.reload import read

        return self._checked(read(self.config_path))

    @cached_property
    def config_in_force(self) -> Config:
        """The configuration, or while an edit has broken it the one the running fabric was started with."""
        from fabric.cli.run_dir import config_in_force

        return self._checked(config_in_force(self.config_path))

    def _checked(self, loaded: Config | Problems) -> Config:
        from fabric.config.problems import Problems

        if not isinstance(loaded, Problems):
            return loaded
        count = len(loaded.items)
        raise CliError(
            Exit.CONFIG,
            f"the configuration {self.config_path} has {count} problem{'s' if count > 1 else ''}:\n{loaded}",
            "Correct the file; fabric validate checks it.",
        )

    @property
    def state_dir(self) -> Path:
        """Where secrets, logs, the journal and the sandbox keep their files."""
        return Path(self.config_in_force.fabric.state)

    @property
    def journal_path(self) -> Path:
        """The journal's file."""
        return Path(self.config_in_force.fabric.journal.partition(":")[2])

    @contextmanager
    def journal(self, *, create: bool = False, actor: str = "cli") -> Iterator[Journal]:
        """The journal, closed at the end of the block.

        Raises:
            CliError: there is none yet and ``create`` is False, or it cannot be opened.
        """
        from fabric.journal.base import JournalUnavailableError
        from fabric.journal.sqlite import SqliteJournal

        if not create and not self.journal_path.exists():
            raise CliError(
                Exit.UNAVAILABLE,
                f"there is no journal at {self.journal_path}: this fabric has never run",
                "Start it with: fabric up",
            )
        try:
            journal = SqliteJournal(self.journal_path, actor=actor, clock=time.time)
        except JournalUnavailableError as error:
            raise CliError(Exit.UNAVAILABLE, str(error)) from error
        try:
            yield journal
        except JournalUnavailableError as error:
            raise CliError(Exit.UNAVAILABLE, str(error)) from error
        finally:
            journal.close()

    def controller_status(self, timeout_s: float = 5.0) -> dict[str, Any] | None:
        """The controller's own account of everything; None when it does not answer."""
        return get_json(f"http://{self.config_in_force.listen.controller}/status", timeout_s)


def get_json(url: str, timeout_s: float = 3.0, headers: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """The JSON object at a ``url`` of this machine; None when nothing there answers with one."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 - from our own configuration
    try:
        with local_opener().open(request, timeout=timeout_s) as answer:
            value = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return None
    return value if isinstance(value, dict) else None


def local_opener() -> urllib.request.OpenerDirector:
    """Opens what this machine's own processes serve: past any proxy, and with any certificate.

    A gateway beyond loopback shows a certificate that only its nodes pin. Ask and tell nothing secret through this.
    """
    unverified = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())  # noqa: S323
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), unverified)

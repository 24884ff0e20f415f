"""Which store a journal URL means: the one place that knows them all."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fabric.journal.base import Journal
from fabric.journal.sqlite import SqliteJournal


def open_journal(
    url: str,
    actor: str,
    base_dir: str | Path,
    clock: Callable[[], float] = time.time,
    *,
    create: bool = True,
) -> Journal:
    """The journal at ``url``, opened for ``actor``.

    Args:
        url: ``sqlite:PATH``; a relative path counts from ``base_dir``.
        actor: the process that appends.
        base_dir: the directory of the configuration file.
        clock: Unix seconds.
        create: False refuses to make a journal where there is none.

    Raises:
        ValueError: the URL names no store this program has.
        JournalUnavailableError: the store cannot be opened.
    """
    scheme, separator, rest = url.partition(":")
    if scheme != "sqlite" or not separator or not rest:
        raise ValueError(f"{url!r} is not a journal; write sqlite:PATH, for example sqlite:state/journal.db")
    return SqliteJournal(Path(base_dir) / rest, actor, clock, create=create)

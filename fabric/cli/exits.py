"""Exit codes, in one table, and the one way in which a verb ends with an error: ``CliError``."""

from __future__ import annotations

from enum import IntEnum
from typing import IO, Any

import click


class Exit(IntEnum):
    """What the exit code of ``fabric`` means. ``MEANINGS`` has the sentences; the reference page is made from it."""

    OK = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 3
    CONFIG = 4
    CONFLICT = 5
    FAILED = 6
    BUG = 70
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done; or the answer is yes",
    Exit.NO: "the answer is no: a check failed, problems were found, the subject does not exist",
    Exit.USAGE: "the command line is wrong",
    Exit.UNAVAILABLE: "the fabric, or the part of it that is needed, is not running or does not answer",
    Exit.CONFIG: "there is no configuration, or it has problems",
    Exit.CONFLICT: "something is in the way: already running, a port in use, a directory that is not ours",
    Exit.FAILED: "it was tried and did not succeed; what was started is said, or taken down again",
    Exit.BUG: "a mistake in the fabric itself; the message says where the traceback was written",
    Exit.INTERRUPTED: "stopped by Ctrl-C",
}


class CliError(click.ClickException):
    """A verb's end, as a sentence that says what is wrong and where, and a remedy that says what to do."""

    def __init__(self, code: Exit, sentence: str, remedy: str = "") -> None:
        super().__init__(sentence)
        self.exit_code = code  # pyright: ignore[reportAttributeAccessIssue] - click declares it per class
        self.remedy = remedy

    def format_message(self) -> str:
        """The sentence and, on a line of its own, the remedy."""
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message

    def show(self, file: IO[Any] | None = None) -> None:
        """Print to ``file``, or to standard error."""
        click.echo(f"fabric: {self.format_message()}", file=file, err=file is None)

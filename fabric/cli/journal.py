"""``fabric journal``: verify the chain, show entries, export them so that anybody can verify them."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from fabric.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from fabric.journal.base import Break, Entry, Head

_FOLLOW_S = 0.3
_LONGEST_VALUE = 60
_SQLITE_MAGIC = b"SQLite format 3\x00"


@click.group()
def journal() -> None:
    """Verify, show and export the journal."""


@journal.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--head", metavar="SEQ:HASH", help="A head noted earlier; the chain must still pass through it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(file: Path | None, head: str | None, as_json: bool) -> None:
    """Name the first entry that is not as it was written.

    FILE is an export or a journal file; without it, the journal of this fabric is verified. The chain alone
    cannot show that its newest entries were cut off: note the head that is printed, and give it with --head later.

    The exit code is 0 when the chain is whole, 1 when it is broken, 3 when it cannot be read.
    """
    expected = _parse_head(head) if head is not None else None
    if file is None:
        from fabric.cli.main import current

        first, last, found = _verify_store(current().journal_path, expected)
    elif _is_sqlite(file):
        first, last, found = _verify_store(file, expected)
    else:
        with click.open_file(str(file), encoding="utf-8", errors="surrogateescape") as lines:
            first, last, found = _verify_export(lines, expected)
    if as_json:
        broken = {"entry": found.seq, "problem": found.problem} if found else None
        told = {"ok": found is None, "first": first, "head": {"seq": last.seq, "hash": last.hash}, "break": broken}
        click.echo(json.dumps(told))
    elif found is not None:
        click.echo(f"broken at entry {found.seq}: {found.problem}")
    elif last.seq == 0:
        click.echo("whole: the journal is empty")
    else:
        before = f"; what came before entry {first} is not in this file" if first > 1 else ""
        click.echo(f"whole: entries {first} to {last.seq}{before}\nhead: {last.seq}:{last.hash}")
    if found is not None:
        raise click.exceptions.Exit(Exit.NO)


@journal.command()
@click.option("--kind", "kinds", multiple=True, help="Only this kind, for example launch.refused or 'launch.*'.")
@click.option("--token", help="Only entries of this launch; the beginning of its token is enough.")
@click.option("--since", help="Only entries from then on: 10m, 2h, or a time such as 2026-01-31T12:00.")
@click.option("--last", "-n", type=click.IntRange(min=1), help="Only the newest N of these.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new entries until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as one line of JSON.")
def show(
    kinds: tuple[str, ...], token: str | None, since: str | None, last: int | None, follow: bool, as_json: bool
) -> None:
    """Print entries, oldest first."""
    from fabric.cli.main import current
    from fabric.journal.fold import Tail

    wanted = _filter(_check_kinds(kinds), token, _parse_since(since))
    render = _as_json if as_json else _as_text
    with current().journal() as store:
        tail = Tail(store)
        found: Iterator[Entry] | deque[Entry] = filter(wanted, tail.stream())
        for entry in deque(found, maxlen=last) if last is not None else found:
            click.echo(render(entry))
        while follow:
            for entry in filter(wanted, tail.stream()):
                click.echo(render(entry))
            time.sleep(_FOLLOW_S)


@journal.command()
@click.option("--since", help="From the first entry of then: 10m, 2h, or a time such as 2026-01-31T12:00.")
@click.option("--output", "-o", type=click.File("w", encoding="ascii", lazy=True), default="-", help="A file.")
def export(since: str | None, output: TextIO) -> None:
    """Write entries with their hashes, one JSON object a line.

    Verify it anywhere with: fabric journal verify FILE. The head is printed to standard error; kept somewhere else,
    it also shows if the end of the file was cut off.
    """
    from fabric.cli.main import current
    from fabric.journal.chain import stored, to_line

    begin, head = _parse_since(since), ""
    begun = begin is None
    with current().journal() as store:
        for entry in store.read():
            # Once begun, every entry is written, whatever its clock said: a gap could not be verified.
            begun = begun or begin is None or entry.at >= begin
            if begun:
                output.write(to_line(stored(entry)) + "\n")
                head = f"head: {entry.seq}:{entry.hash}"
    output.flush()
    click.echo(head or "there was nothing to export", err=True)


def _verify_store(path: Path, expected: Head | None) -> tuple[int, Head, Break | None]:
    from fabric.journal.base import GENESIS, Break, Head, JournalBrokenError, JournalUnavailableError
    from fabric.journal.sqlite import SqliteJournal

    try:
        with closing(SqliteJournal(path, "cli", create=False)) as store:
            found = store.verify(expected)
            return 1, store.head() if found is None else Head(0, GENESIS), found
    except JournalBrokenError as error:
        return 1, Head(0, GENESIS), Break(1, str(error))
    except JournalUnavailableError as error:
        raise CliError(Exit.UNAVAILABLE, str(error)) from error


def _verify_export(lines: Iterable[str], expected: Head | None) -> tuple[int, Head, Break | None]:
    from fabric.journal.base import Break, Head
    from fabric.journal.chain import EMPTY, Stored, Unreadable, parse_lines
    from fabric.journal.chain import verify as verify_chain

    first, head = 1, EMPTY

    def watched() -> Iterator[Stored | Unreadable]:
        nonlocal head
        for item in items:
            if isinstance(item, Stored):
                head = Head(item.seq, item.hash)
            yield item

    items = parse_lines(lines)
    start = EMPTY
    opening = next(items, None)
    if opening is None:
        return first, head, Break(1, "missing: the file holds no entry")
    if isinstance(opening, Stored) and opening.seq > 1:
        # The export begins later: what its first entry says came before is taken on trust.
        first, start = opening.seq, Head(opening.seq - 1, opening.previous)
    items = chain((opening,), items)
    found = verify_chain(watched(), start=start, expected_head=expected)
    return first, head, found


def _is_sqlite(file: Path) -> bool:
    if str(file) == "-":
        return False
    with file.open("rb") as content:
        return content.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC


def _parse_head(text: str) -> Head:
    from fabric.journal.base import Head

    seq, separator, digest = text.partition(":")
    if not separator or not seq.isdecimal() or len(digest) != 64:
        raise click.BadParameter(f"{text!r} is not a head; write SEQ:HASH as `verify` prints it", param_hint="--head")
    return Head(int(seq), digest.lower())


def _parse_since(text: str | None) -> float | None:
    if text is None:
        return None
    from datetime import datetime

    from fabric.config.units import seconds

    try:
        return time.time() - seconds(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a duration such as 10m nor a time such as 2026-01-31T12:00", param_hint="--since"
        ) from None


def _check_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    from fabric.model.events import Event

    known = [event.value for event in Event]
    for kind in kinds:
        if not any(fnmatchcase(name, kind) for name in known):
            near = get_close_matches(kind, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"kinds: {', '.join(known)}"
            raise click.BadParameter(f"no entry is of kind {kind!r}; {hint}", param_hint="--kind")
    return kinds


def _filter(kinds: tuple[str, ...], token: str | None, since: float | None) -> Callable[[Entry], bool]:
    from fnmatch import fnmatchcase

    def wanted(entry: Entry) -> bool:
        return (
            (since is None or entry.at >= since)
            and (not kinds or any(fnmatchcase(entry.kind, kind) for kind in kinds))
            and (token is None or str(entry.data.get("token", "")).startswith(token))
        )

    return wanted


def _as_json(entry: Entry) -> str:
    from fabric.journal.chain import stored, to_line

    return to_line(stored(entry))


def _as_text(entry: Entry) -> str:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{entry.seq:>6}  {at}Z  {entry.actor:<10}  {entry.kind:<18}  {_facts(entry)}".rstrip()


def _facts(entry: Entry) -> str:
    sentences = entry.data.get("sentences")
    if isinstance(sentences, list) and sentences:
        return _plain(" ".join(str(sentence) for sentence in sentences))
    return " ".join(f"{name}={_value(value)}" for name, value in entry.data.items() if value not in ("", None))


def _value(value: Any) -> str:
    text = _plain(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _plain(text: str) -> str:
    """Text from outside without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else "·" for char in text)

r"""The hash chain: how an entry becomes bytes, how bytes become a hash, and how a chain is verified.

**Canonical JSON.** Keys sorted by code point, no white space (separators ``,`` and ``:``), every character
outside printable ASCII escaped as ``\uXXXX`` (so the text is the same bytes in ASCII, UTF-8 and Latin-1), no
NaN and no infinities, floats in the shortest form that reads back as the same IEEE double (Python's
``repr``). Keys are strings; a value that would not read back the same is refused.

**The body of an entry** is this object in canonical JSON. ``at_us`` is the time in whole microseconds since
1970, so the header holds no float; ``data`` stands in it exactly as it is stored::

    {"actor":…,"at_us":…,"data":…,"kind":…,"once":…,"previous":…,"seq":…}

``hash`` is the SHA-256 of the body's bytes in lower-case hex; ``previous`` is the hash of the entry before.

**A line of an export** is the body with ``,"hash":"…"`` put before the closing brace. Whoever holds a line can
check it without a JSON parser: drop the last 75 bytes, add ``}``, hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from fabric.journal.base import GENESIS, Break, Draft, Entry, Head, JournalBrokenError

MICROSECONDS = 1_000_000
EMPTY = Head(0, GENESIS)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_quote = json.encoder.encode_basestring_ascii
_HASH_MARK = ',"hash":"'


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry exactly as a store or an export holds it: ``data`` is still text."""

    seq: int
    at_us: int
    actor: str
    kind: str
    once: str | None
    data: str
    previous: str
    hash: str

    def body(self) -> str:
        """The text that is hashed."""
        return _body(self.seq, self.at_us, self.actor, self.kind, self.once, self.data, self.previous)

    def to_entry(self) -> Entry:
        """The entry with its data parsed.

        Raises:
            JournalBrokenError: the data is not a JSON object.
        """
        data = _parse_object(self.data)
        if data is None:
            raise JournalBrokenError(
                f"entry {self.seq} cannot be read: its data is not a JSON object; run `fabric journal verify`"
            )
        at = self.at_us / MICROSECONDS
        return Entry(self.seq, at, self.actor, self.kind, data, self.previous, self.hash, self.once)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something at the place of an entry that cannot even be taken apart."""

    seq: int
    problem: str


def canonical(value: Any) -> str:
    r"""``value`` as canonical JSON.

    >>> canonical({"b": 1.5, "a": ["é", None, True]})
    '{"a":["\\u00e9",null,true],"b":1.5}'

    Raises:
        ValueError: ``value`` is not JSON: a NaN, an infinity, a key that is no string, an object of another kind.
    """
    try:
        text = _ENCODER.encode(value)
        keys_are_text = _keys_are_text(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"this cannot be written to the journal as JSON: {error}") from error
    if not keys_are_text:
        raise ValueError("this cannot be written to the journal as JSON: a key of an object is not a string")
    return text


def digest(body: str) -> str:
    """SHA-256 of a body, in hex."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def link(draft: Draft, data: str, *, seq: int, at_us: int, actor: str, previous: str) -> Stored:
    """``draft`` as the next entry of a chain; ``data`` is its data in canonical JSON."""
    body = _body(seq, at_us, actor, draft.kind, draft.once, data, previous)
    return Stored(seq, at_us, actor, draft.kind, draft.once, data, previous, digest(body))


def check_draft(draft: Draft) -> None:
    """Refuse a draft whose kind or once key would not survive every store.

    Raises:
        ValueError: says which.
    """
    for name, value in (("kind", draft.kind), ("once", draft.once)):
        if value is not None and (not value or not value.isprintable()):
            raise ValueError(f"{name} of a journal entry must be printable and not empty, not {value!r}")
    if not isinstance(cast(object, draft.data), Mapping):
        raise ValueError(f"data of a journal entry must be an object, not {draft.data!r}")


def verify(
    chain: Iterable[Stored | Unreadable], *, start: Head = EMPTY, expected_head: Head | None = None
) -> Break | None:
    """The first entry that is not as it was written; None when all are.

    Args:
        chain: what is stored, in order.
        start: the entry before the first of ``chain``.
        expected_head: a head noted earlier that the chain must still pass through.
    """
    before = start
    for item in chain:
        if isinstance(item, Unreadable):
            return Break(item.seq, item.problem)
        problem = _problem(item, before)
        if problem is not None:
            return problem
        before = Head(item.seq, item.hash)
        if expected_head is not None and before.seq == expected_head.seq and before != expected_head:
            return Break(before.seq, f"hash {before.hash} is not the noted {expected_head.hash}: it was rewritten")
    if expected_head is not None and before.seq < expected_head.seq:
        return Break(
            before.seq + 1,
            f"missing: the chain ends at entry {before.seq}, but entry {expected_head.seq} has been noted",
        )
    return None


def stored(entry: Entry) -> Stored:
    """``entry`` as a store would hold it; its hash is taken over unchecked."""
    at_us = round(entry.at * MICROSECONDS)
    return Stored(
        entry.seq, at_us, entry.actor, entry.kind, entry.once, canonical(entry.data), entry.previous, entry.hash
    )


def to_line(item: Stored) -> str:
    """One line of an export, without the line end."""
    return f'{item.body()[:-1]}{_HASH_MARK}{item.hash}"}}'


def parse_lines(lines: Iterable[str]) -> Iterator[Stored | Unreadable]:
    """The entries of an export; a line that is none becomes ``Unreadable`` with the position it should have."""
    expected: int | None = None
    for line in lines:
        item = _parse_line(line.rstrip("\r\n"))
        if item is None:
            seq = 1 if expected is None else expected
            yield Unreadable(seq, "its line is not a line of a journal export")
            return
        expected = item.seq + 1
        yield item


def _keys_are_text(value: Any) -> bool:
    if isinstance(value, dict):
        pairs = cast(dict[object, Any], value)
        return all(isinstance(key, str) and _keys_are_text(item) for key, item in pairs.items())
    if isinstance(value, list | tuple):
        return all(_keys_are_text(item) for item in cast(list[Any], value))
    return True


def _body(seq: int, at_us: int, actor: str, kind: str, once: str | None, data: str, previous: str) -> str:
    key = "null" if once is None else _quote(once)
    return (
        f'{{"actor":{_quote(actor)},"at_us":{at_us},"data":{data},"kind":{_quote(kind)},"once":{key},'
        f'"previous":{_quote(previous)},"seq":{seq}}}'
    )


def _problem(item: Stored, before: Head) -> Break | None:
    place = before.seq + 1
    if item.seq > place:
        return Break(place, f"missing: entry {before.seq} is followed by entry {item.seq}")
    if item.seq < place:
        return Break(place, f"out of order: entry {item.seq} stands in its place")
    if digest(item.body()) != item.hash:
        return Break(item.seq, "changed: its content does not have the hash that is stored with it")
    if item.previous != before.hash:
        return Break(item.seq, f"does not follow entry {before.seq}: its previous hash is not that entry's hash")
    if _parse_object(item.data) is None:
        return Break(item.seq, "its data is not a JSON object")
    return None


def _parse_line(line: str) -> Stored | None:
    fields = _parse_object(line)
    if fields is None or set(fields) != {"actor", "at_us", "data", "kind", "once", "previous", "seq", "hash"}:
        return None
    types = {"actor": str, "at_us": int, "data": dict, "kind": str, "previous": str, "seq": int, "hash": str}
    if any(type(fields[name]) is not kind for name, kind in types.items()):
        return None
    once = fields["once"]
    if not isinstance(once, str | None):
        return None
    head = f'{{"actor":{_quote(fields["actor"])},"at_us":{fields["at_us"]},"data":'
    foot = (
        f',"kind":{_quote(fields["kind"])},"once":{"null" if once is None else _quote(once)},'
        f'"previous":{_quote(fields["previous"])},"seq":{fields["seq"]}{_HASH_MARK}{fields["hash"]}"}}'
    )
    if not (line.startswith(head) and line.endswith(foot)):
        return None
    data = line[len(head) : len(line) - len(foot)]
    return Stored(
        fields["seq"], fields["at_us"], fields["actor"], fields["kind"], once, data, fields["previous"], fields["hash"]
    )


def _parse_object(text: str) -> dict[str, Any] | None:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None

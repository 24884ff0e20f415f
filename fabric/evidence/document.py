"""The evidence file: what is in it, what is signed, and how its text is read without trusting any of it.

docs/reference/evidence.md describes the format for those who verify it with code of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from fabric.journal.chain import Stored, canonical

FORMAT = "fabric-evidence/1"
_SIGNED_FOR = b"fabric-evidence/1\n"
Json = dict[str, Any]


class NotEvidenceError(Exception):
    """A text that is no evidence file; says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Proven:
    """One entry, and the hashes that lead from it to the root of the tree."""

    item: Stored
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is vouched for: a journal of ``seq`` entries, its newest hash, and the root of the tree over all of them.

    Attributes:
        fabric: the fabric's name.
        at: Unix seconds when it was signed.
        seq, hash: the journal's head.
        root: of the tree over the hashes of entries 1 to ``seq``.
        path: the hashes that lead from the head to the root.
    """

    fabric: str
    at: float
    seq: int
    hash: bytes
    root: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A whole file.

    Attributes:
        statement: what the entries say, for people.
        manifest: position and hash of every entry that belongs in the file, in order.
        entries: these entries.
        key, signature: Ed25519 (RFC 8032), raw bytes.
    """

    checkpoint: Checkpoint
    statement: Json
    manifest: tuple[tuple[int, str], ...]
    entries: tuple[Proven, ...]
    key: bytes = b""
    signature: bytes = b""

    def signed_bytes(self) -> bytes:
        """What the signature is over. The entries are in it by their hashes."""
        told = _json_of(self)
        del told["entries"], told["signature"]
        return _SIGNED_FOR + canonical(told).encode("ascii")

    def text(self) -> str:
        """The file."""
        return _text(_json_of(self))


def parse(content: bytes) -> Evidence:
    """The evidence in a file, of which nothing has been verified.

    Raises:
        NotEvidenceError: it is not a file as ``Evidence.text`` writes it, to the byte.
    """
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise NotEvidenceError(
            f"byte {error.start + 1} of the file, 0x{content[error.start]:02x}, is not ASCII"
        ) from None
    try:
        told = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotEvidenceError(f"the file is not JSON: {error}") from None
    evidence = _evidence(_shaped(told, "the file", _TOP))
    try:
        written = evidence.text()
    except (ValueError, RecursionError) as error:
        raise NotEvidenceError(f"something in the file cannot be written as JSON: {error}") from None
    if written != text:
        place = next(
            (i for i, (a, b) in enumerate(zip(written, text, strict=False)) if a != b), min(len(written), len(text))
        )
        line = text.count("\n", 0, place) + 1
        raise NotEvidenceError(f"byte {place + 1} (line {line}) is not as the fabric writes it")
    return evidence


_TOP = {
    "checkpoint": dict, "entries": list, "format": str, "key": str, "manifest": list, "signature": str,
    "statement": dict,
}  # fmt: skip
_CHECKPOINT = {"at": float, "fabric": str, "hash": str, "path": list, "root": str, "seq": int}
_PROVEN = {"entry": dict, "path": list}
_ENTRY = {
    "actor": str, "at_us": int, "data": dict, "hash": str, "kind": str, "once": object, "previous": str, "seq": int,
}  # fmt: skip


def _json_of(evidence: Evidence) -> Json:
    point = evidence.checkpoint
    return {
        "format": FORMAT,
        "checkpoint": {
            "fabric": point.fabric,
            "at": point.at,
            "seq": point.seq,
            "hash": point.hash.hex(),
            "root": point.root.hex(),
            "path": [step.hex() for step in point.path],
        },
        "statement": evidence.statement,
        "manifest": [list(pair) for pair in evidence.manifest],
        "entries": [
            {"entry": _entry_json(proven.item), "path": [step.hex() for step in proven.path]}
            for proven in evidence.entries
        ],
        "key": evidence.key.hex(),
        "signature": evidence.signature.hex(),
    }


def _entry_json(item: Stored) -> Json:
    return {
        "actor": item.actor,
        "at_us": item.at_us,
        "data": json.loads(item.data),
        "hash": item.hash,
        "kind": item.kind,
        "once": item.once,
        "previous": item.previous,
        "seq": item.seq,
    }


def _text(value: Json) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def _evidence(told: Json) -> Evidence:
    if told["format"] != FORMAT:
        raise NotEvidenceError(f"the format is {told['format'][:40]!r}, and this version reads {FORMAT}")
    try:
        return Evidence(
            checkpoint=_checkpoint(told["checkpoint"]),
            statement=told["statement"],
            manifest=tuple(_pair(pair, number) for number, pair in enumerate(told["manifest"], 1)),
            entries=tuple(_proven(item, number) for number, item in enumerate(told["entries"], 1)),
            key=_bytes(told["key"], 32, "key"),
            signature=_bytes(told["signature"], 64, "signature"),
        )
    except ValueError as error:
        raise NotEvidenceError(f"an entry of the file cannot be written as JSON: {error}") from None


def _proven(value: object, number: int) -> Proven:
    where = f"entries[{number}]"
    told = _shaped(value, where, _PROVEN)
    fields = _shaped(told["entry"], f"{where}.entry", _ENTRY)
    once = fields["once"]
    if not isinstance(once, str | None):
        raise NotEvidenceError(f"{where}.entry.once is neither a text nor null")
    item = Stored(
        fields["seq"],
        fields["at_us"],
        fields["actor"],
        fields["kind"],
        once,
        canonical(fields["data"]),
        fields["previous"],
        fields["hash"],
    )
    return Proven(item, _path(told["path"], where))


def _checkpoint(value: object) -> Checkpoint:
    point = _shaped(value, "checkpoint", _CHECKPOINT)
    return Checkpoint(
        fabric=point["fabric"],
        at=point["at"],
        seq=point["seq"],
        hash=_bytes(point["hash"], 32, "checkpoint.hash"),
        root=_bytes(point["root"], 32, "checkpoint.root"),
        path=_path(point["path"], "checkpoint"),
    )


def _path(steps: list[object], where: str) -> tuple[bytes, ...]:
    return tuple(_bytes(step, 32, f"{where}.path") for step in steps)


def _pair(value: object, number: int) -> tuple[int, str]:
    pair = cast(list[object], value) if isinstance(value, list) else []
    if len(pair) != 2 or type(pair[0]) is not int or not isinstance(pair[1], str):
        raise NotEvidenceError(f"manifest[{number}] is not a position and a hash")
    return pair[0], pair[1]


def _shaped(value: object, where: str, shape: Mapping[str, type]) -> Json:
    """``value`` as an object with exactly the fields of ``shape``."""
    if not isinstance(value, dict):
        raise NotEvidenceError(f"{where} is not an object")
    fields = cast(Json, value)
    for name in sorted(set(fields) - set(shape)):
        raise NotEvidenceError(f"{where} has a field {name[:40]!r} that does not belong there")
    for name, kind in shape.items():
        if name not in fields:
            raise NotEvidenceError(f"{where} lacks the field {name!r}")
        if kind is not object and type(fields[name]) is not kind:
            raise NotEvidenceError(f"{where}.{name} is not of the right kind ({kind.__name__})")
    return fields


def _bytes(value: object, size: int, where: str) -> bytes:
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        found = b""
    if len(found) != size:
        raise NotEvidenceError(f"{where} is not {size} bytes in hex")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")

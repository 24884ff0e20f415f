"""Verifying an evidence file: needs its bytes and the public key, nothing else.

The checks go from the small to the whole, so that the first one that fails names the thing itself: a character, an
entry, the list of entries, a sentence of the statement, and only then the signature.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fabric.evidence.document import Checkpoint, Evidence, NotEvidenceError, Proven, parse
from fabric.evidence.merkle import root_from
from fabric.evidence.statement import statement
from fabric.journal.base import JournalBrokenError
from fabric.journal.chain import digest


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a verification.

    Attributes:
        problems: what is wrong with the file, most telling first; with any, nothing in it may be relied on.
        violations: the file is genuine, and shows that the job was where it was not allowed to be.
        evidence: what is in the file; None where it could not be taken apart.
    """

    problems: tuple[str, ...]
    violations: tuple[str, ...] = ()
    evidence: Evidence | None = None

    @property
    def is_good(self) -> bool:
        """Whether the file is genuine and the job was only where it was allowed to be."""
        return not self.problems and not self.violations


def verify_evidence(content: bytes, key: bytes | None) -> Finding:
    """Check a file.

    Args:
        content: its bytes.
        key: the Ed25519 public key it should be signed with (32 raw bytes). None takes the one in the file, which
            shows that the file is whole and not who vouches for it.
    """
    try:
        evidence = parse(content)
    except NotEvidenceError as error:
        return Finding((f"This is not an evidence file as it was written: {error}.",))
    listed = dict(evidence.manifest)
    problems = [
        *_foreign_key(evidence, key),
        *_order(evidence),
        *(problem for proven in evidence.entries for problem in _entry(evidence.checkpoint, listed, proven)),
        *_head(evidence.checkpoint),
    ]
    if not problems:
        problems = [*_statement(evidence), *_signature(evidence, key)]
    violations = () if problems else tuple(evidence.statement["findings"])
    return Finding(tuple(problems), violations, evidence)


def key_text(key: bytes) -> str:
    """A public key as people hand it on."""
    return f"ed25519:{key.hex()}"


def _foreign_key(evidence: Evidence, key: bytes | None) -> list[str]:
    if key is None or evidence.key == key:
        return []
    return [f"It is signed with a foreign key: {key_text(evidence.key)}, not {key_text(key)}."]


def _order(evidence: Evidence) -> list[str]:
    """The entries against the list of those that belong in the file."""
    listed, there = [seq for seq, _ in evidence.manifest], [proven.item.seq for proven in evidence.entries]
    problems = [f"Entry {seq} was removed." for seq in sorted({*listed} - {*there})]
    problems += [f"Entry {seq} was added: it is not in the list of entries." for seq in sorted({*there} - {*listed})]
    problems += _repeated("Entry {} is there more than once.", there)
    problems += _repeated("Entry {} is listed more than once.", listed)
    problems += _moved("Entries were reordered: entry {} stands after entry {}.", there)
    problems += _moved("The list of entries was reordered: entry {} stands after entry {}.", listed)
    return problems


def _repeated(sentence: str, seqs: Sequence[int]) -> list[str]:
    return [sentence.format(seq) for seq, times in sorted(Counter(seqs).items()) if times > 1]


def _moved(sentence: str, seqs: Sequence[int]) -> list[str]:
    return [sentence.format(b, a) for a, b in pairwise(seqs) if b < a]


def _entry(point: Checkpoint, listed: Mapping[int, str], proven: Proven) -> list[str]:
    item = proven.item
    if digest(item.body()) != item.hash:
        return [f"Entry {item.seq} ({item.kind}) was changed: its content does not have the hash that stands with it."]
    if listed.get(item.seq, item.hash) != item.hash:
        return [f"Entry {item.seq} ({item.kind}) is not the one in the list of entries: its hash is another."]
    if root_from(bytes.fromhex(item.hash), item.seq - 1, point.seq, proven.path) != point.root:
        return [
            f"Entry {item.seq} ({item.kind}) is not proven to be in the journal of {point.seq} entries: "
            "its path does not lead to the root that is vouched for."
        ]
    return []


def _head(point: Checkpoint) -> list[str]:
    if root_from(point.hash, point.seq - 1, point.seq, point.path) == point.root:
        return []
    return [f"The head {point.seq}:{point.hash.hex()} is not proven to be the journal's: its path leads elsewhere."]


def _statement(evidence: Evidence) -> list[str]:
    job = evidence.statement.get("job")
    try:
        told = statement([proven.item.to_entry() for proven in evidence.entries], str(job))
    except (ValueError, JournalBrokenError) as error:
        return [f"The entries are not those of a job: {error}."]
    where = _difference(evidence.statement, told, "statement")
    return [] if where is None else [f"The statement was changed: {where} is not what the entries say."]


def _difference(here: Any, there: Any, where: str) -> str | None:
    """The first place at which two JSON values differ."""
    if isinstance(here, dict) and isinstance(there, dict):
        for name in sorted({*here, *there}):
            if name not in here or name not in there:
                return f"{where}.{name}"
            found = _difference(here[name], there[name], f"{where}.{name}")
            if found is not None:
                return found
        return None
    if isinstance(here, list) and isinstance(there, list):
        for number, (a, b) in enumerate(zip(here, there, strict=False), 1):
            found = _difference(a, b, f"{where}[{number}]")
            if found is not None:
                return found
        return None if len(here) == len(there) else f"{where}[{min(len(here), len(there)) + 1}]"
    return None if type(here) is type(there) and here == there else where


def _signature(evidence: Evidence, key: bytes | None) -> list[str]:
    try:
        Ed25519PublicKey.from_public_bytes(key or evidence.key).verify(evidence.signature, evidence.signed_bytes())
    except (InvalidSignature, ValueError):
        return [
            "The signature is not that of this content by this key: the signature itself, the list of entries, the "
            "checkpoint or the statement was changed, or an entry was removed from the file and from its list."
        ]
    return []

"""A Merkle tree over the hashes of journal entries (RFC 6962, 2.1; RFC 9162, 2.1).

An entry's hash covers the hash of the entry before, so a part of the chain can only be checked together with everything
in it, other people's jobs included. In a tree an entry is proven with about ``log2(entries)`` hashes and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY = sha256(b"").digest()


class Tree:
    """The tree over ``leaves``: hashes of journal entries (32 bytes each), in order."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        level = [leaf_hash(leaf) for leaf in leaves]
        self.size = len(level)
        self._levels = [level]
        while len(level) > 1:
            pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            # The odd one out moves up unchanged, which is the same tree as splitting at the largest power of two.
            level = pairs + level[-1:] if len(level) % 2 else pairs
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """The hash that stands for all leaves and their order."""
        return self._levels[-1][0] if self.size else EMPTY

    def path(self, index: int) -> list[bytes]:
        """The hashes that lead from leaf ``index`` (from 0) to the root, lowest first."""
        found: list[bytes] = []
        for level in self._levels[:-1]:
            beside = index ^ 1
            if beside < len(level):
                found.append(level[beside])
            index //= 2
        return found


def root_from(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root of a tree of ``size`` leaves in which ``leaf`` stands at ``index`` (RFC 9162, 2.1.3.2).

    None where no tree of that size has such a path.
    """
    if not 0 <= index < size:
        return None
    place, last, found = index, size - 1, leaf_hash(leaf)
    for beside in path:
        if last == 0:
            return None
        if place % 2 or place == last:
            found = _node(beside, found)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            found = _node(found, beside)
        place, last = place // 2, last // 2
    return found if last == 0 else None


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf; the prefix keeps it from being taken for an inner node."""
    return sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()

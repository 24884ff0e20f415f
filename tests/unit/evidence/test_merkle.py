"""The Merkle tree against the recursive definition of RFC 6962 and against known answers."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.evidence.merkle import Tree, root_from

# The reference leaves and roots of the Certificate Transparency project (merkle_tree_test in its repository).
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def by_definition(leaves: list[bytes]) -> bytes:
    if len(leaves) <= 1:
        return sha256(b"\x00" + leaves[0]).digest() if leaves else sha256(b"").digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_the_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert Tree(LEAVES[:size]).root.hex() == ROOTS[size - 1]


def leaves_of(size: int) -> list[bytes]:
    return [sha256(str(number).encode()).digest() for number in range(size)]


@pytest.mark.parametrize("size", [0, *range(1, 70)])
def test_every_leaf_of_every_size_is_proven_at_its_place_and_at_no_other(size: int) -> None:
    leaves = leaves_of(size)
    tree = Tree(leaves)
    assert tree.root == by_definition(leaves)
    for index in range(size):
        path = tree.path(index)
        assert len(path) <= (size - 1).bit_length()
        assert root_from(leaves[index], index, size, path) == tree.root
        for other in {0, index - 1, index + 1, size - 1, size} - {index}:
            assert root_from(leaves[index], other, size, path) != tree.root


@settings(deadline=None)
@given(size=st.integers(2, 200), data=st.data())
def test_a_path_that_was_changed_in_any_way_leads_elsewhere(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    tree, index = Tree(leaves), data.draw(st.integers(0, size - 1))
    path = tree.path(index)
    place = data.draw(st.integers(0, len(path) - 1))
    broken = [*path[:place], bytes([path[place][0] ^ 1]) + path[place][1:], *path[place + 1 :]]
    shorter = [*path[:place], *path[place + 1 :]]
    longer = [*path[:place], leaves[0], *path[place:]]
    for changed in (broken, shorter, longer):
        assert root_from(leaves[index], index, size, changed) != tree.root
    assert root_from(leaves[index - 1], index, size, path) != tree.root


def test_a_proof_is_as_long_as_the_logarithm_of_the_journal() -> None:
    tree = Tree([b"\x00" * 32] * (1 << 14))
    assert len(tree.path(12_345)) == 14

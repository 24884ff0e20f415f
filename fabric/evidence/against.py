"""Evidence against an export of the journal: whoever has both can see that nothing about the job was left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from fabric.evidence.extract import Selection
from fabric.evidence.merkle import Tree
from fabric.evidence.verify import Finding
from fabric.journal.chain import Stored, Unreadable, parse_lines, verify


def left_out(finding: Finding, lines: Iterable[str]) -> Finding:
    """``finding`` with what the export shows.

    Args:
        finding: of a file that is genuine.
        lines: an export from entry 1 on, at least to the head that the file vouches for.
    """
    if finding.evidence is None:
        return finding
    point = finding.evidence.checkpoint
    selection, leaves = Selection(str(finding.evidence.statement["job"])), list[bytes]()

    def up_to_the_head() -> Iterator[Stored | Unreadable]:
        for item in parse_lines(lines):
            yield item
            if isinstance(item, Unreadable):
                return
            leaves.append(bytes.fromhex(item.hash))
            selection.take(item.to_entry())
            if item.seq == point.seq:
                return

    broken = verify(up_to_the_head())
    if broken is not None:
        return replace(finding, problems=(f"The export is broken at entry {broken.seq}: {broken.problem}.",))
    if len(leaves) < point.seq:
        return replace(
            finding,
            problems=(f"The export ends at entry {len(leaves)}, and the file vouches for {point.seq} entries.",),
        )
    if Tree(leaves).root != point.root:
        return replace(finding, problems=("The export is of another journal: its tree has another root.",))
    there = {proven.item.seq for proven in finding.evidence.entries}
    missing = [entry for entry in selection.entries() if entry.seq not in there]
    return replace(
        finding,
        problems=tuple(f"Entry {entry.seq} ({entry.kind}) of the journal was left out." for entry in missing),
    )

"""Taking the evidence of one job out of a journal: which entries, and the proof that they stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fabric.evidence.document import Checkpoint, Evidence, Proven
from fabric.evidence.merkle import Tree
from fabric.evidence.statement import statement
from fabric.journal.base import Entry, Head
from fabric.journal.chain import EMPTY, Stored, stored, verify
from fabric.model.events import Event
from fabric.sovereignty.widen import rules_in


class NoEvidenceError(Exception):
    """There is nothing to vouch for: no such job, or a journal that is not whole. Says which."""


@dataclass(slots=True)
class Selection:
    """Which entries of a journal are about one job. Feed it every entry in order.

    Entries about other jobs are never among them.

    Attributes:
        job: the submission id.
        picked: the entries, by position.
    """

    job: str
    picked: dict[int, Entry] = field(default_factory=dict[int, Entry])
    _rules: Entry | None = None
    _tokens: dict[str, Entry] = field(default_factory=dict[str, Entry])
    _joined: dict[str, Entry] = field(default_factory=dict[str, Entry])
    _seen: dict[str, Entry] = field(default_factory=dict[str, Entry])
    _class: str | None = None
    _over: bool = False

    def take(self, entry: Entry) -> None:
        """Look at one entry."""
        data = entry.data
        if entry.kind.startswith("job."):
            if data.get("job") == self.job:
                self._take_own(entry)
        elif rules_in(entry) is not None:
            self._rules = entry
        elif entry.kind == Event.NODE_JOINED:
            self._joined[str(data.get("token"))] = entry
        elif entry.kind == Event.ONPREM_NODE_SEEN:
            self._seen[str(data.get("node"))] = entry
        elif entry.kind == Event.TOKEN_CREATED:
            self._tokens[str(data.get("id"))] = entry
        elif entry.kind == Event.CLASS_WIDENED and data.get("data_class") == self._class and not self._over:
            self._pick(entry)

    def entries(self) -> list[Entry]:
        """What was picked, in order."""
        return [self.picked[seq] for seq in sorted(self.picked)]

    def _take_own(self, entry: Entry) -> None:
        data = entry.data
        if entry.kind == Event.JOB_SUBMITTED:
            self._class = data.get("data_class")
            self._pick(self._rules)
            self._pick(self._tokens.get(str(data.get("token_id"))))
        elif entry.kind == Event.JOB_ADMITTED:
            self._pick(self._rules)
        elif entry.kind == Event.JOB_RAN_ON:
            self._pick(self._joined.get(str(data.get("instance"))))
            self._pick(self._seen.get(str(data.get("instance"))))
        elif entry.kind == Event.JOB_FINISHED:
            self._over = True
        self._pick(entry)

    def _pick(self, entry: Entry | None) -> None:
        if entry is not None:
            self.picked[entry.seq] = entry


def extract(entries: Iterable[Entry], job: str, fabric: str, now: float) -> Evidence:
    """The evidence of ``job``, not signed yet.

    Args:
        entries: the whole journal, from entry 1; its chain is verified on the way.
        job: the submission id.
        fabric: the fabric's name.
        now: Unix seconds, for the checkpoint.

    Raises:
        NoEvidenceError: the journal has no such job, or its chain is broken: nothing may be vouched for then.
    """
    selection, leaves, head = Selection(job), list[bytes](), EMPTY

    def watched() -> Iterator[Stored]:
        nonlocal head
        for entry in entries:
            item = stored(entry)
            yield item
            # Whoever asks for the next one has found this one to be as it was written.
            leaves.append(bytes.fromhex(item.hash))
            head = Head(item.seq, item.hash)
            selection.take(entry)

    broken = verify(watched())
    if broken is not None:
        raise NoEvidenceError(f"the journal is broken at entry {broken.seq}: {broken.problem}")
    picked = selection.entries()
    try:
        told = statement(picked, job)
    except ValueError as error:
        raise NoEvidenceError(str(error)) from error
    tree = Tree(leaves)
    return Evidence(
        checkpoint=Checkpoint(fabric, now, head.seq, leaves[-1], tree.root, tuple(tree.path(head.seq - 1))),
        statement=told,
        manifest=tuple((entry.seq, entry.hash) for entry in picked),
        entries=tuple(Proven(stored(entry), tuple(tree.path(entry.seq - 1))) for entry in picked),
    )

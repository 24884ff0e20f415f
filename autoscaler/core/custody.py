"""May this machine live? The journal's record of a launch against what the cloud lists under its token.

Pure. The controller asks after every listing, the reaper in its own time and with more patience; both act on the
answer in the same way, so it does not matter which of them is alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from autoscaler.core.lifecycle import InstanceRecord, Phase


class Ruling(StrEnum):
    """What is to be done about one launch."""

    NOTHING = "nothing"
    ADOPT = "adopt"  # the cloud made it and nobody read the reply
    ORPHAN = "orphan"  # it lives and no entry justifies it: say so, then end it
    END = "end"  # its end is to be intended, and the cloud asked
    REPEAT = "repeat"  # its end is intended already: ask the cloud again
    ENDED = "ended"  # the cloud says that it ended: write down when
    GONE = "gone"  # the cloud does not know it any more: write down that it ended, at an estimated time
    CANCEL = "cancel"  # nobody will ask the cloud for it any more, and it has not appeared
    NEVER = "never"  # its end was wanted before it appeared, and it has not appeared: there is nothing to end


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ruling with its cause, a short word for the journal."""

    ruling: Ruling
    cause: str = ""


NOTHING = Verdict(Ruling.NOTHING)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the cloud says of one instance, as far as it matters here.

    Attributes:
        launched_at_ms, ended_at_ms: the cloud's own times; ``ended_at_ms`` is None while it lives.
        first_seen_at: Unix seconds when this process first saw it.
        reason: the cloud's word for its end.
    """

    launched_at_ms: int
    ended_at_ms: int | None
    first_seen_at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, each kind of doubt is borne.

    Attributes:
        stranger_s: a machine with our owner tag and a token that the journal does not know.
        settle_s: an intended launch that nobody is working on and no listing shows.
        missing_s: an accepted instance that listings do not show yet; clouds list with a delay.
        deadline_s: what is added to the join deadline and to the lease.
        ending_s: how long whoever intended an end is left alone with it.
    """

    stranger_s: float
    settle_s: float
    missing_s: float
    deadline_s: float
    ending_s: float


def judge(
    record: InstanceRecord | None,
    machine: Machine | None,
    listed_at: float,
    patience: Patience,
    *,
    in_flight: bool = False,
    seen_before: bool = False,
    not_found: bool = False,
) -> Verdict:
    """Rule on one launch.

    Args:
        record: what the journal says, read *after* the listing; None: its token is unknown.
        machine: what the cloud lists under the token; None: nothing.
        listed_at: Unix seconds at which that listing was asked for.
        patience: how long to bear doubt.
        in_flight: this very process is waiting for the cloud's reply to the launch.
        seen_before: an earlier listing of this process had it.
        not_found: asked to end it, the cloud said that it does not know it.
    """
    if machine is not None and machine.ended_at_ms is not None:
        known = record is not None and (record.ended_at_ms is None or record.estimated)
        return Verdict(Ruling.ENDED, machine.reason) if known else NOTHING
    if machine is not None:
        return _living(record, machine, listed_at, patience, in_flight=in_flight)
    if record is not None:
        if not_found and record.phase.charged:
            return Verdict(Ruling.GONE, "not_found")
        return _missing(record, listed_at, patience, in_flight=in_flight, seen_before=seen_before)
    return NOTHING


def _living(
    record: InstanceRecord | None, machine: Machine, listed_at: float, patience: Patience, *, in_flight: bool
) -> Verdict:
    if record is None or record.phase is Phase.PLANNED:
        since = max(machine.first_seen_at, machine.launched_at_ms / 1000)
        return Verdict(Ruling.ORPHAN, "unknown_instance") if listed_at - since >= patience.stranger_s else NOTHING
    if record.ended_at_ms is not None:
        return Verdict(Ruling.REPEAT, "ended_but_alive")
    if record.phase is Phase.ENDED:
        # A listing that is older than the entry proves nothing.
        stale = record.ended_at is not None and listed_at <= record.ended_at + patience.ending_s
        return NOTHING if stale else Verdict(Ruling.ORPHAN, record.cause or "ended_but_alive")
    if record.phase is Phase.ENDING:
        waited = record.ending_at is None or listed_at >= record.ending_at + patience.ending_s
        return Verdict(Ruling.REPEAT, record.cause) if waited else NOTHING
    if record.phase is Phase.LOST:
        waited = record.lost_at is None or listed_at >= record.lost_at + patience.ending_s
        return Verdict(Ruling.END, "node_lost") if waited else NOTHING
    if overdue := _overdue(record, listed_at, patience):
        return Verdict(Ruling.END, overdue)
    return Verdict(Ruling.ADOPT) if not record.instance and not in_flight else NOTHING


def _missing(
    record: InstanceRecord, listed_at: float, patience: Patience, *, in_flight: bool, seen_before: bool
) -> Verdict:
    if not record.phase.charged or in_flight:
        return NOTHING
    if not record.instance and record.joined_at is None:
        settled = listed_at >= max(record.intended_at or 0.0, record.ending_at or 0.0) + patience.settle_s
        ruling = Ruling.CANCEL if record.phase is Phase.REQUESTED else Ruling.NEVER
        return Verdict(ruling, "never_appeared") if settled else NOTHING
    due = (record.accepted_at or record.joined_at or 0.0) + patience.missing_s
    if not seen_before and listed_at < due:
        return NOTHING
    # Not listed is not yet gone: only its own word for it counts, and asking for the end brings that word.
    ruling = Ruling.REPEAT if record.phase is Phase.ENDING else Ruling.END
    return Verdict(ruling, "not_listed")


def _overdue(record: InstanceRecord, now: float, patience: Patience) -> str:
    if record.joined_at is None:
        late = record.join_by is not None and now >= record.join_by + patience.deadline_s
        return "join_deadline" if late else ""
    lapsed = record.lease_until is not None and now >= record.lease_until + patience.deadline_s
    return "lease_lapsed" if lapsed else ""

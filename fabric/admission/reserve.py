"""When a job that has no room now could start, and what has to be kept for it.

EASY backfilling: the first job of the line gets a reservation, the others may start out of turn where they do not
touch it (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; Mu'alem and Feitelson, IEEE TPDS 12(6), 2001). Here
with nodes instead of a count of processors, and in every site in which the head could run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabric.admission.asks import Ask
from fabric.admission.holds import Release, parts_held
from fabric.admission.space import Amounts, Placement, Space, Where, give_back, slots, take_away, worker_nodes


@dataclass(frozen=True, slots=True)
class Start:
    """The earliest start of a job in one site by what is known now.

    Attributes:
        at: Unix seconds.
        placement: where.
        late: by node of the site, what will be free then beside it.
    """

    at: float
    placement: Placement
    late: dict[int, Amounts]


def earliest(space: Space, releases: Sequence[Release], site: str, ask: Ask, where: Where) -> Start | None:
    """The first moment at which ``ask`` fits into ``site`` if nothing else is started; None if it never does."""
    meant = worker_nodes(ask, where)
    left = {index: dict(space.free[index]) for index in space.sites.get(site, ()) if not space.rooms[index].closing}
    known = {index: slots(amounts, ask.bundle) for index, amounts in left.items() if space.suits(index, meant)}
    total = sum(known.values())
    here = [release for release in releases if release.site == site]
    for position, release in enumerate(here):
        for index, bundle, times in release.parts:
            give_back(left[index], bundle, times)
            if index in known:
                now = slots(left[index], ask.bundle)
                total += now - known[index]
                known[index] = now
        same_moment = position + 1 < len(here) and here[position + 1].at == release.at
        if total < ask.workers or same_moment:
            continue
        placement = space.pack(site, {index: dict(amounts) for index, amounts in left.items()}, known, ask, where)
        if placement is not None:
            for index, bundle, times in parts_held(ask, placement):
                take_away(left[index], bundle, times)
            return Start(release.at, placement, left)
    return None

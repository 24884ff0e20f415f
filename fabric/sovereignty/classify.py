"""The data class of a job: the strictest of what its team, its data sets and the user say. Pure.

A class is at least as strict as another when every place it allows, a site bought in a market, is one that the other
allows too. A user can tighten the class of a job and never widen it; where two classes allow different places there
is no strictest, and the job is refused rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fabric.config.schema import HOME_ONLY, Config
from fabric.model.nodes import Market
from fabric.sovereignty.rules import is_home, verdict

Places = frozenset[tuple[str, Market]]


class ClassRefusedError(Exception):
    """The job has no class it may run under. ``reason`` is a word for programs; the text is the sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Classified:
    """The class a job runs under, and what implied it: ``team vision``, ``data set slides``, ``the job``."""

    data_class: str
    because: str


def places(config: Config, data_class: str) -> Places:
    """Every site and market at which work on data of ``data_class`` may run; none for an unknown class."""
    return frozenset(
        (site, market)
        for site in config.sites
        for market in ((Market.OWNED,) if is_home(config, site) else (Market.ON_DEMAND, Market.SPOT))
        if verdict(config, data_class, site, market).allowed
    )


def classify(config: Config, team: str, datasets: Sequence[str], asked: str | None = None) -> Classified:
    """The strictest class of the team (the default where it has none), the data sets, and what the user asked for.

    Args:
        config: the configuration in force.
        team: the submitter's team; ``""`` or an unknown one has the default class.
        datasets: names of the data the job reads.
        asked: the class in the job's metadata; None where it names none.

    Raises:
        ClassRefusedError: an unknown class or data set, two classes of which neither is stricter, or a class that
            is wider than what team and data sets imply.
    """
    block = config.teams.get(team)
    base = block.data_class if block is not None and block.data_class else config.defaults.data_class
    whose = f"team {team}" if block is not None and block.data_class else "the default"
    strictest = Classified(_known(config, base, whose), whose)
    for name in datasets:
        data = config.datasets.get(name)
        if data is None:
            raise ClassRefusedError("unknown_dataset", _unknown("data set", name, config.datasets))
        if data.data_class is not None:
            whose = f"data set {name}"
            strictest = _stricter(config, strictest, Classified(_known(config, data.data_class, whose), whose))
    if asked is None:
        return strictest
    if not _is_known(config, asked):
        raise ClassRefusedError("unknown_class", _unknown("data class", asked, (HOME_ONLY, *config.data_classes)))
    return _tightened(config, strictest, asked)


def _stricter(config: Config, one: Classified, other: Classified) -> Classified:
    first, second = places(config, one.data_class), places(config, other.data_class)
    if first <= second:
        return one
    if second <= first:
        return other
    raise ClassRefusedError(
        "incomparable_classes",
        f"{_capital(one.because)} implies data class {one.data_class} and {other.because} implies {other.data_class}: "
        "each allows places that the other forbids, so neither is the stricter one. Operations have to say which "
        "holds, for example with a class that both contain.",
    )


def _tightened(config: Config, implied: Classified, asked: str) -> Classified:
    wider = places(config, asked) - places(config, implied.data_class)
    if not wider:
        return Classified(asked, "the job")
    named = ", ".join(sorted({f"{site} {market.value}" for site, market in wider}))
    raise ClassRefusedError(
        "class_widened",
        f"The job asks for data class {asked}, but {implied.because} implies {implied.data_class}, which does not "
        f"allow all of it ({named}). A job can ask for a stricter class, never for a wider one. Leave "
        "fabric.data_class out, or name a class that is contained in "
        f"{implied.data_class}; only operations can widen a class, in the configuration.",
    )


def _known(config: Config, data_class: str, whose: str) -> str:
    if not _is_known(config, data_class):
        raise ClassRefusedError(
            "unknown_class",
            f"{_capital(whose)} implies data class {data_class}, which is not in the configuration. "
            "Operations have to define it.",
        )
    return data_class


def _is_known(config: Config, data_class: str) -> bool:
    return data_class == HOME_ONLY or data_class in config.data_classes


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = ", ".join(sorted(known)) or "none"
    return f"There is no {what} {name!r} in the configuration. There is: {names}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

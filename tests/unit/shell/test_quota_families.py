"""A quota that is used up closes every offer of its family, as far as it was ever met."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.shell.book import Book
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Iterator[Book]:
    journal = SqliteJournal(tmp_path / "journal.db", "test", clock)
    yield Book(journal)
    journal.close()


def refuse(book: Book, token: str, offer: str, site: str = "sky", error: str = "quota", family: str = "G") -> None:
    of_type = offer.split("/")[0]
    intent = {"token": token, "site": site, "node_type": of_type, "offer": offer}
    refusal = {"token": token, "offer": offer, "error": error, "message": "no", "family": family}
    book.append(Draft(Event.LAUNCH_INTENDED, intent), Draft(Event.LAUNCH_REFUSED, refusal))


def test_a_refusal_of_one_offer_closes_all_that_its_family_ever_refused(book: Book, clock: Clock) -> None:
    refuse(book, "t1", "sky.g1/a/spot")
    clock.now += 10_000
    refuse(book, "t2", "sky.g2/b/spot")
    assert {offer: refusal.at for offer, refusal in book.refusals().items()} == {
        "sky.g1/a/spot": clock.now,
        "sky.g2/b/spot": clock.now,
    }


def test_families_of_the_same_name_on_two_sites_are_two(book: Book, clock: Clock) -> None:
    refuse(book, "t1", "sky.g1/a/spot")
    before = clock.now
    clock.now += 100
    refuse(book, "t2", "sea.g1/a/spot", site="sea")
    assert book.refusals()["sky.g1/a/spot"].at == before


@pytest.mark.parametrize(("error", "family"), [("capacity", ""), ("quota", ""), ("quota", "P")])
def test_a_refusal_that_is_not_of_the_family_leaves_its_offers_alone(
    book: Book, clock: Clock, error: str, family: str
) -> None:
    refuse(book, "t1", "sky.g1/a/spot")
    before = clock.now
    clock.now += 100
    refuse(book, "t2", "sky.g2/b/spot", error=error, family=family)
    assert book.refusals()["sky.g1/a/spot"].at == before


@pytest.mark.parametrize("error", ["throttled", "network"])
def test_a_throttle_or_a_lost_reply_is_not_remembered_as_a_refusal(book: Book, error: str) -> None:
    refuse(book, "t1", "sky.g1/a/spot", error=error, family="launch")
    assert not book.refusals()
    assert not book.stops()

"""The real controller writes an entry for each data class that an edit lets go further, whenever the edit was made."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from tests.chaos.rig import Rig
from tests.conftest import wait_until
from tests.unit.cli.places import Place, place_in

HOME = "patient: {sites: [home]}"
WIDER = "patient: {sites: [home, sky]}"


@contextmanager
def controller_of(place: Place) -> Iterator[Rig]:
    place.path.with_name("wanted").write_text("0")
    controller = Rig(place.path, None, lambda _: SqliteJournal(place.journal, "controller", busy_s=0.2))
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        yield controller
    finally:
        controller.stop()
        thread.join(30)
        assert not thread.is_alive()


def edit(place: Place, before: str, after: str) -> None:
    text = place.path.read_text()
    assert before in text
    place.path.write_text(text.replace(before, after))


def entries(place: Place, kind: Event) -> list[dict[str, Any]]:
    if not place.journal.exists():
        return []
    with closing(SqliteJournal(place.journal, "tester")) as journal:
        return [dict(entry.data) for entry in journal.read() if entry.kind == kind]


def started(place: Place, times: int) -> bool:
    return len([data for data in entries(place, Event.FABRIC_STARTED) if "rules" in data]) == times


def test_an_edit_is_noticed_while_it_runs_and_at_its_start(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    edit(place, "data_classes: {open: {sites: any}}", f"data_classes: {{open: {{sites: any}}, {HOME}}}")
    with controller_of(place):
        wait_until(lambda: started(place, 1), what="the start")
        edit(place, HOME, WIDER)
        wait_until(lambda: entries(place, Event.CONFIG_LOADED), what="the edit")
    (found,) = entries(place, Event.CLASS_WIDENED)
    assert (found["data_class"], found["sites"], found["spot"]) == ("patient", ["sky"], False)
    (loaded,) = entries(place, Event.CONFIG_LOADED)
    (start,) = entries(place, Event.FABRIC_STARTED)
    assert (found["digest_before"], found["digest"]) == (start["config_digest"], loaded["digest"])
    assert loaded["rules"]["classes"]["patient"]["sites"] == ["home", "sky"]

    edit(place, WIDER, HOME)
    with controller_of(place):
        wait_until(lambda: started(place, 2), what="the second start")
    assert len(entries(place, Event.CLASS_WIDENED)) == 1
    edit(place, f", {HOME}", "")
    with controller_of(place):
        wait_until(lambda: started(place, 3), what="the third start")
    edit(place, "{open: {sites: any}}", f"{{open: {{sites: any}}, {WIDER}}}")
    with controller_of(place):
        wait_until(lambda: started(place, 4), what="the fourth start")
    assert [data["sites"] for data in entries(place, Event.CLASS_WIDENED)] == [["sky"], ["sky"]]


def test_an_edit_that_the_journal_could_not_take_is_written_when_it_can(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    edit(place, "data_classes: {open: {sites: any}}", f"data_classes: {{open: {{sites: any}}, {HOME}}}")
    with controller_of(place) as controller:
        wait_until(lambda: started(place, 1), what="the start")
        before = controller._file.digest
        with closing(sqlite3.connect(place.journal, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            edit(place, HOME, WIDER)
            wait_until(lambda: controller._file.digest != before, what="the edit to be in force")
            wait_until(lambda: controller._loop.beat.failures > 0, what="a tick to fail")
            somebody.execute("ROLLBACK")
        wait_until(lambda: entries(place, Event.CONFIG_LOADED), what="the entry")
    assert [data["sites"] for data in entries(place, Event.CLASS_WIDENED)] == [["sky"]]
    assert len(entries(place, Event.CONFIG_LOADED)) == 1

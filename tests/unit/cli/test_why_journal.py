"""``fabric why`` tells what was decided, on what, and what became of it, from the journal alone; it checks itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from autoscaler.boot.trust import cluster_token_file
from autoscaler.core.codec import decode_snapshot, encode_snapshot
from autoscaler.core.snapshot import Snapshot
from autoscaler.shell.book import Book
from autoscaler.shell.brain import Brain
from autoscaler.shell.receipts import receipts
from fabric.cli.exits import Exit
from fabric.cli.main import cli
from fabric.config.load import load
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.journal.base import Draft
from fabric.journal.sqlite import SqliteJournal
from fabric.model.demand import Demand, Shape
from fabric.model.events import Event
from fabric.model.money import Tariff, usd
from fabric.model.nodes import Market, Node, NodePhase, Offer
from fabric.model.resources import Resources
from fabric.telemetry.emit import Metrics

BEGIN = 1_700_000_000.0
TOKEN = "fab-0123456789abcdef0123"
RAY_NODE = "c0ffee" + "0" * 50
WANTED = Demand(Shape(Resources.of({"GPU": 1})), 2)
CONFIG = """
defaults: {{data_class: open}}
data_classes: {{open: {{sites: any}}}}
ray: {{dashboard: "127.0.0.1:{dashboard}"}}
sites:
  home: {{kind: onprem, node_types: {{box: {{nodes: [a], gpus: 1, cpus: 4}}}}}}
  sky:
    kind: sandbox
    node_types: {{g: {{gpus: 1, cpus: 4, max: 4, price: {{on-demand: 3.60 USD/h}}}}}}
burst: {{baseline: [{{gpus: 2, for: 0s}}], idle: 5s, hold: 1s}}
"""


@dataclass
class Story:
    """A journal written as the controller, the gateway and the reaper write it, at times of our choosing."""

    root: Path
    dashboard: int
    now: float = BEGIN

    def __post_init__(self) -> None:
        self.path = self.root / "fabric.yaml"
        self.path.write_text(CONFIG.format(dashboard=self.dashboard))
        config = load(self.path.read_text(), str(self.path))
        assert isinstance(config, Config), config
        self.config = config
        self.journal = SqliteJournal(self.root / "state" / "journal.db", "controller", lambda: self.now)
        self.brain = self.new_brain()

    def new_brain(self) -> Brain:
        offers = [Offer("sky.g/a/on-demand", "sky.g", "sky", "a", Market.ON_DEMAND, Tariff(usd("3.6"), 60))]
        config, book = self.config, Book(self.journal)
        return Brain(lambda: config, book, lambda: offers, tuple, lambda _: (), receipts(), lambda: self.now, Metrics())

    def decide(self, *nodes: Node, demands: tuple[Demand, ...] = ()) -> int:
        """One tick of the real brain; the position of its receipt."""
        self.brain(Snapshot(node_types=node_types(self.config), nodes=nodes, demands=demands))
        return self.journal.last_seq()

    def write(self, after_s: float, kind: Event, **data: Any) -> int:
        self.now += after_s
        return self.journal.append([Draft(kind, {"token": TOKEN, **data})])[0].seq

    def ask(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["why", *arguments, "-c", str(self.path)])

    def asked(self, subject: str) -> dict[str, Any]:
        done = self.ask(subject, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def story(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Story]:
    found = Story(tmp_path, free_port())
    yield found
    found.journal.close()


def burst_node(idle_s: float) -> Node:
    total = Resources.of({"GPU": 1, "CPU": 4})
    return Node(
        "im-1",
        "sky.g",
        NodePhase.RUNNING,
        total,
        total,
        ray_node_id=RAY_NODE,
        instance_id=TOKEN,
        token=TOKEN,
        idle_s=idle_s,
    )


def whole_life(story: Story) -> tuple[int, int]:
    """Bought, made, joined, renewed twice, given back when idle, ended; the positions of the two receipts."""
    bought = story.decide(demands=(WANTED,))
    story.write(
        1,
        Event.LAUNCH_INTENDED,
        site="sky",
        node_type="sky.g",
        offer="sky.g/a/on-demand",
        zone="a",
        market="on-demand",
        per_hour=3_600_000,
        minimum_seconds=60,
        ticket_sha256="ab" * 32,
        ticket_expires_at=story.now + 600,
        join_by=story.now + 600,
        request_id="r-1",
        labels={},
    )
    begun_ms = round((story.now + 2) * 1000)
    story.write(2, Event.LAUNCH_ACCEPTED, instance="i-4711", site="sky", launched_at_ms=begun_ms)
    story.write(1, Event.JOIN_REFUSED, token="", ticket_sha256="ab" * 32, reason="clock_skew", sentence="Clock off.")
    story.write(9, Event.NODE_JOINED, site="sky", node_type="sky.g", python="3.11.7", ray="2.60.0")
    story.write(30, Event.LEASE_RENEWED, until=story.now + 930)
    story.write(30, Event.LEASE_RENEWED, until=story.now + 930)
    story.now += 30
    back = story.decide(burst_node(idle_s=30))
    story.write(1, Event.TERMINATE_INTENDED, instance="i-4711", site="sky", cause="idle", by="controller", idle_s=30.0)
    story.write(
        2,
        Event.INSTANCE_ENDED,
        instance="i-4711",
        site="sky",
        launched_at_ms=begun_ms,
        ended_at_ms=begun_ms + 100_000,
        reason="terminated",
    )
    return bought, back


def test_a_purchase_is_told_with_its_queue_its_threshold_and_its_price(story: Story) -> None:
    seq = story.decide(demands=(WANTED,))
    (told,) = story.asked(str(seq))["decisions"]
    assert told["seq"] == seq
    assert (told["queue"]["gpus"], told["queue"]["requests"]) == (2, 2)
    assert any("Threshold of 2 GPUs" in sentence for sentence in told["queue"]["sentences"])
    (bought,) = told["sentences"]
    assert bought.startswith("Buying 2 x sky.g.")
    assert "$3.60 an hour" in bought
    assert told["recomputed_the_same"] is True


def test_work_that_is_not_bought_for_is_told_with_the_reason(story: Story) -> None:
    seq = story.decide(demands=(Demand(WANTED.shape, 1),))
    (told,) = story.asked(str(seq))["decisions"]
    assert any("has not been deep enough" in sentence for sentence in told["sentences"])


def test_latest_is_the_newest_decision_that_acted(story: Story) -> None:
    bought, back = whole_life(story)
    assert story.decide() > back
    assert [decision["seq"] for decision in story.asked("latest")["decisions"]] == [back]
    assert bought < back


@pytest.mark.parametrize("subject", [TOKEN, TOKEN[:10], "i-4711", RAY_NODE, "c0ffee"])
def test_a_launch_is_found_by_each_of_its_names(story: Story, subject: str) -> None:
    bought, back = whole_life(story)
    told = story.asked(subject)
    assert told["subject"] == TOKEN
    assert [decision["seq"] for decision in told["decisions"]] == [bought, back]


def test_the_life_of_a_launch_is_told_in_order_with_its_cost(story: Story) -> None:
    whole_life(story)
    told = story.asked(TOKEN)
    sentences = [line["sentence"] for line in told["story"]]
    begin = ["intended", "cloud made it", "refused", "joined", "renewed its lease 2 times", "end was intended", "ended"]
    assert len(sentences) == len(begin)
    assert all(word in sentence for word, sentence in zip(begin, sentences, strict=True))
    times = [line["at"] for line in told["story"]]
    assert times == sorted(times)
    # 100 s at 3.60 USD an hour, of which it had been idle from 30 s before its end was intended.
    assert any(sentence.startswith("It cost $0.10:") and "idle" in sentence for sentence in told["now"])
    assert any("made in 2.0 s" in sentence and "joined in 12.0 s" in sentence for sentence in told["now"])


def test_a_live_launch_says_how_long_its_lease_runs_and_what_it_has_cost_so_far(story: Story) -> None:
    story.write(0, Event.LAUNCH_INTENDED, site="sky", node_type="sky.g", offer="o", market="spot", per_hour=1_000_000)
    story.write(1, Event.LAUNCH_ACCEPTED, instance="i-1", site="sky", launched_at_ms=round(story.now * 1000))
    story.write(1, Event.NODE_JOINED, site="sky", node_type="sky.g", lease_until=story.now + 900)
    now = " ".join(story.asked("i-1")["now"])
    assert "It is running." in now
    assert "Its lease runs until" in now
    assert "so far" in now


@pytest.mark.parametrize("subject", ["onprem/home/a", "onprem/home", "a"])
def test_a_machine_of_ones_own_is_found_by_its_id_or_its_name(story: Story, subject: str) -> None:
    story.journal.append([Draft(Event.ONPREM_NODE_SEEN, {"node": "onprem/home/a", "node_type": "home.box"})])
    told = story.asked(subject)
    assert told["subject"] == "onprem/home/a"
    assert "alive" in told["story"][0]["sentence"]


def rewrite(story: Story, change: Callable[[dict[str, Any]], None]) -> int:
    """A receipt that is not what its snapshot says, in a journal that is whole; its position."""
    story.decide(demands=(WANTED,))
    entry = list(story.journal.read())[-1]
    data = json.loads(json.dumps(entry.data))
    change(data)
    return story.journal.append([Draft(Event.DECISION, data)])[0].seq


def test_a_receipt_whose_snapshot_was_changed_is_shown_as_different_and_as_what_it_said(story: Story) -> None:
    def half_the_demand(data: dict[str, Any]) -> None:
        data["snapshot"]["demands"][0]["count"] = 1
        assert encode_snapshot(decode_snapshot(data["snapshot"])) == data["snapshot"]

    done = story.ask(str(rewrite(story, half_the_demand)))
    assert done.exit_code == Exit.NO
    assert "Buying 2 x sky.g" in done.stdout
    assert "it comes out differently" in done.stdout
    assert "depth.gpus: the receipt says 2.0, decided again it is 1.0" in done.stdout
    assert "launches: the receipt says" in done.stdout


def test_a_receipt_with_another_count_is_shown_with_exactly_that_difference(story: Story) -> None:
    def one_more(data: dict[str, Any]) -> None:
        data["decision"]["launches"][0]["count"] = 3

    done = story.ask(str(rewrite(story, one_more)), "--json")
    assert done.exit_code == Exit.NO
    (told,) = json.loads(done.stdout)["decisions"]
    assert told["recomputed_the_same"] is False
    assert told["differences"][0] == "launches[0].count: the receipt says 3, decided again it is 2"


@pytest.mark.parametrize("policy", ["gone", None])
def test_a_receipt_of_a_policy_that_is_gone_says_so(story: Story, policy: str | None) -> None:
    def another(data: dict[str, Any]) -> None:
        data["policy"] = policy

    done = story.ask(str(rewrite(story, another)))
    assert done.exit_code == Exit.NO
    assert "Buying 2 x sky.g" in done.stdout
    assert "policy" in done.stdout


def test_a_name_nobody_has_gets_the_kinds_of_names_and_the_near_ones(story: Story) -> None:
    whole_life(story)
    done = story.ask(TOKEN.replace("89", "98"))
    assert done.exit_code == Exit.NO
    assert f"Near it: {TOKEN}" in done.output
    assert "Ray node id" in done.output


def test_the_beginning_of_several_names_is_not_guessed_at(story: Story) -> None:
    for token in ("fab-aaa1", "fab-aaa2"):
        story.journal.append([Draft(Event.LAUNCH_CANCELLED, {"token": token, "cause": "test"})])
    done = story.ask("fab-aaa")
    assert done.exit_code == Exit.NO
    assert "fab-aaa1, fab-aaa2" in done.output


@pytest.mark.parametrize("seq", ["1", "99"])
def test_a_number_that_is_no_decision_is_said_to_be_none(story: Story, seq: str) -> None:
    story.write(0, Event.LAUNCH_CANCELLED, cause="test")
    done = story.ask(seq)
    assert done.exit_code == Exit.NO
    assert "not a decision" in done.output or "does not exist" in done.output


def test_before_there_is_a_journal_it_says_how_to_begin(story: Story, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "fabric.yaml").write_text(story.path.read_text())
    done = CliRunner().invoke(cli, ["why", "latest", "-c", str(other / "fabric.yaml")])
    assert done.exit_code == Exit.UNAVAILABLE
    assert "fabric up" in done.output


@pytest.mark.parametrize("job", ["raysubmit_abc", "01000000"])
def test_a_job_while_ray_is_down_says_that_only_ray_knows_when_it_ran(story: Story, job: str) -> None:
    whole_life(story)
    done = story.ask(job)
    assert done.exit_code == Exit.UNAVAILABLE
    assert "known to Ray only" in done.output


@pytest.fixture
def jobs_api(story: Story) -> Iterator[dict[str, dict[str, Any]]]:
    """An HTTP server that answers like Ray's Jobs API for these jobs, to whoever has the cluster's token."""
    jobs: dict[str, dict[str, Any]] = {}
    token = cluster_token_file(story.root / "state").read_text()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {f"/api/jobs/{name}": job for name, job in jobs.items()}
            known["/api/version"] = {"ray_version": "2.60.0"}
            allowed = self.headers["Authorization"] == f"Bearer {token}"
            body = json.dumps(known.get(self.path, {})).encode()
            self.send_response(401 if not allowed else 200 if self.path in known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = HTTPServer(("127.0.0.1", story.dashboard), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with closing(server.socket):
        yield jobs
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("job", ["raysubmit_abc", "01000000", "my-own-name"])
def test_a_job_is_told_by_the_decisions_between_its_submission_and_its_end(
    story: Story, jobs_api: dict[str, dict[str, Any]], job: str
) -> None:
    before = story.decide(demands=(Demand(WANTED.shape, 1),))
    story.now += 60
    jobs_api[job] = {"start_time": round(story.now * 1000), "end_time": round((story.now + 150) * 1000)}
    bought, back = whole_life(story)
    story.now += 600
    story.decide(demands=(Demand(WANTED.shape, 1),))
    told = story.asked(job)
    assert [decision["seq"] for decision in told["decisions"]] == [bought, back]
    assert before < bought
    assert "does not say whose demand" in told["note"]


@pytest.mark.usefixtures("jobs_api")
def test_a_job_that_ray_does_not_know_is_unknown(story: Story) -> None:
    done = story.ask("raysubmit_abc")
    assert done.exit_code == Exit.NO
    assert "nothing named raysubmit_abc" in done.output

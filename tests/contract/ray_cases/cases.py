"""Clusters on which Ray's scheduler and ours must give the same answer, each with the answer written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ray.core.generated.instance_manager_pb2 import Instance

from tests.contract.ray_cases import IN, NOT_IN, Cause, Cluster, ask, gang, kind

IMPLICIT = "node:__internal_implicit_resource_serve"
IDLE, TYPE_MAX, TOTAL_MAX, OUTDATED = Cause.IDLE, Cause.MAX_NUM_NODE_PER_TYPE, Cause.MAX_NUM_NODES, Cause.OUTDATED


@dataclass(frozen=True)
class Case:
    """What to ask and what to hear; instances are named ``i0``, ``i1``, … in the order they were added."""

    name: str
    cluster: Callable[[], Cluster]
    launches: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)
    infeasible: int = 0
    infeasible_gangs: int = 0
    infeasible_constraints: int = 0


def _boxes(high: int = 10, low: int = 0) -> dict:
    return {"box": kind({"CPU": 4}, low, high)}


def _fleet() -> dict:
    return {
        "small": kind({"CPU": 4}),
        "large": kind({"CPU": 32}, high=4),
        "one": kind({"CPU": 8, "GPU": 1}),
        "eight": kind({"CPU": 64, "GPU": 8}, high=4),
    }


def _zones() -> dict:
    return {name: kind({"CPU": 2}, labels={"zone": name}) for name in ("north", "south")}


def _config(hash_: str = "new", low: int = 1) -> dict:
    return {
        "box": kind({"CPU": 4}, low, 5, launch_config_hash=hash_),
        "head": kind({"CPU": 0}, 0, 1, launch_config_hash="h"),
    }


def _idle(**more: object) -> Cluster:
    cluster = Cluster({"head": kind({"CPU": 0}, 0, 1), "box": kind({"CPU": 4})}, idle_s=60, **more)
    return cluster.running("head", head=True, idle_s=9999).running("box", {"CPU": 0}).running("box", idle_s=90)


MINIMUM = [
    Case("minimum nodes are launched", lambda: Cluster({"a": kind({"CPU": 1}, 2), "b": kind({"CPU": 1})}), {"a": 2}),
    Case(
        "running nodes count toward the minimum",
        lambda: Cluster({"a": kind({"CPU": 1}, 2)}).running("a").running("a").running("a"),
    ),
    Case(
        "coming nodes count toward the minimum in any state",
        lambda: (
            Cluster({"a": kind({"CPU": 1}, 4)}).coming("a", Instance.QUEUED).coming("a", Instance.REQUESTED).coming("a")
        ),
        {"a": 1},
    ),
    Case(
        "minimum nodes hold demand before more are bought",
        lambda: Cluster({"a": kind({"CPU": 4}, 2)}, requests=[ask({"CPU": 2})] * 5),
        {"a": 3},
    ),
]

MAXIMUM = [
    Case("at a type's maximum nothing is ended", lambda: Cluster(_boxes(2)).running("box", count=2)),
    Case(
        "over a type's maximum what is not running goes first",
        lambda: Cluster(_boxes(2)).running("box").coming("box").running("box", {"CPU": 1}),
        ends={"i1": TYPE_MAX},
    ),
    Case(
        "then the least used",
        lambda: Cluster(_boxes(1)).running("box", {"CPU": 1}).coming("box").running("box", {"CPU": 3}),
        ends={"i1": TYPE_MAX, "i2": TYPE_MAX},
    ),
    Case(
        "a type of which none may be is emptied",
        lambda: Cluster(_boxes(0)).coming("box", count=2),
        ends={"i0": TYPE_MAX, "i1": TYPE_MAX},
    ),
    Case(
        "over the total maximum: not running, then longest idle, then least used",
        lambda: (
            Cluster({"a": kind({"CPU": 2}), "b": kind({"CPU": 2})}, most=1)
            .running("a", {"CPU": 0})
            .running("b", {"CPU": 1})
            .running("a", idle_s=30)
            .coming("b")
        ),
        ends={"i1": TOTAL_MAX, "i2": TOTAL_MAX, "i3": TOTAL_MAX},
    ),
    Case(
        "a type's maximum comes before the total",
        lambda: (
            Cluster({"a": kind({"CPU": 2}), "b": kind({"CPU": 2}, high=0)}, most=1)
            .running("a")
            .running("b")
            .coming("a")
        ),
        ends={"i1": TYPE_MAX, "i2": TOTAL_MAX},
    ),
    Case(
        "the head is never ended for a maximum",
        lambda: Cluster({"a": kind({"CPU": 2}, high=1)}, most=1).coming("a", head=True).coming("a"),
        ends={"i1": TYPE_MAX},
    ),
    Case(
        "no more are launched than a type may have",
        lambda: Cluster(_boxes(2), requests=[ask({"CPU": 4})] * 5),
        {"box": 2},
        infeasible=3,
    ),
    Case(
        "no more are launched than there may be altogether",
        lambda: Cluster(_boxes(), requests=[ask({"CPU": 4})] * 5, most=3).running("box", {"CPU": 0}),
        {"box": 2},
        infeasible=3,
    ),
    Case(
        "a total of zero launches nothing and ends nothing",
        lambda: Cluster(_boxes(), requests=[ask({"CPU": 1})], most=0).running("box", {"CPU": 0}),
        infeasible=1,
    ),
]

DEMAND = [
    Case("one request, one node", lambda: Cluster(_boxes(), requests=[ask({"CPU": 1})]), {"box": 1}),
    Case("requests share nodes", lambda: Cluster(_boxes(), requests=[ask({"CPU": 1})] * 9), {"box": 3}),
    Case(
        "free capacity is used first",
        lambda: Cluster(_boxes(), requests=[ask({"CPU": 1})] * 3).running("box", {"CPU": 3}),
    ),
    Case(
        "a fraction too little is too little",
        lambda: Cluster(_boxes(), requests=[ask({"CPU": 3})]).running("box", {"CPU": 2.9}),
        {"box": 1},
    ),
    Case(
        "a coming node is capacity",
        lambda: Cluster(_boxes(), requests=[ask({"CPU": 4})]).coming("box", Instance.REQUESTED),
    ),
    Case("nothing fits, nothing is launched", lambda: Cluster(_boxes(), requests=[ask({"CPU": 5})] * 2), infeasible=2),
    Case(
        "an unknown resource is infeasible",
        lambda: Cluster(_boxes(), requests=[ask({"TPU": 1}), ask({"CPU": 1})]),
        {"box": 1},
        infeasible=1,
    ),
    Case(
        "an implicit resource is on every node once",
        lambda: Cluster(_boxes(), requests=[ask({IMPLICIT: 1})] * 2),
        {"box": 2},
    ),
    Case(
        "an implicit resource on a running node is found there",
        lambda: Cluster(_boxes(), requests=[ask({IMPLICIT: 0.5}), ask({"CPU": 2})]).running("box"),
    ),
    Case(
        "a request for nothing fits anywhere",
        lambda: Cluster(_boxes(), requests=[ask({"CPU": 0})]).running("box", {"CPU": 0}),
    ),
    Case("zero quantities do not matter", lambda: Cluster(_boxes(), requests=[ask({"CPU": 1, "GPU": 0})]), {"box": 1}),
    Case(
        "two halves of a GPU share it",
        lambda: Cluster(_fleet(), requests=[ask({"CPU": 1, "GPU": 0.5})] * 2),
        {"one": 1},
    ),
    Case(
        "a thousand equal requests that do not fit are all reported",
        lambda: Cluster(_boxes(1), requests=[ask({"CPU": 4})] * 1000).running("box"),
        infeasible=999,
    ),
]

CHOICE = [
    Case("the node that is used best is chosen", lambda: Cluster(_fleet(), requests=[ask({"CPU": 3})]), {"small": 1}),
    Case(
        "large for much work, small for the rest",
        lambda: Cluster(_fleet(), requests=[ask({"CPU": 4})] * 9),
        {"large": 1, "small": 1},
    ),
    Case(
        "GPU nodes are kept for GPU work",
        lambda: Cluster(
            {"gpu": kind({"CPU": 4, "GPU": 1}), "odd": kind({"CPU": 9, "X": 1})}, requests=[ask({"CPU": 4})]
        ),
        {"odd": 1},
    ),
    Case(
        "a GPU node takes CPU work along",
        lambda: Cluster(_fleet(), requests=[ask({"CPU": 1, "GPU": 1}), *[ask({"CPU": 1})] * 7]),
        {"one": 1},
    ),
    Case("one full node rather than eight", lambda: Cluster(_fleet(), requests=[ask({"GPU": 1})] * 8), {"eight": 1}),
    Case(
        "several small ones rather than a half empty large one",
        lambda: Cluster(_fleet(), requests=[ask({"GPU": 1})] * 3),
        {"one": 3},
    ),
    Case(
        "CPU work goes where there is only CPU",
        lambda: Cluster(_fleet(), requests=[ask({"CPU": 1})] * 40),
        {"large": 1, "small": 2},
    ),
    Case(
        "only the large node is large enough",
        lambda: Cluster(_fleet(), requests=[ask({"CPU": 40, "GPU": 1})] * 3),
        {"eight": 3},
    ),
    Case(
        "when the better type is at its maximum the next serves",
        lambda: Cluster(
            {"cpu": kind({"CPU": 2}, high=3), "gpu": kind({"CPU": 16, "GPU": 1})}, requests=[ask({"CPU": 1})] * 10
        ),
        {"cpu": 3, "gpu": 1},
    ),
    Case(
        "between equals, availability decides",
        lambda: Cluster(
            {name: kind({"CPU": 4, name: 1}) for name in "xyz"},
            requests=[ask({"CPU": 4})] * 2,
            availability={"x": 0.3, "z": 0.5},
        ),
        {"y": 2},
    ),
    Case(
        "recovery comes before priority, priority before availability",
        lambda: Cluster(
            {
                "x": kind({"CPU": 4, "x": 1}, priority=1),
                "y": kind({"CPU": 4, "y": 1}, priority=3),
                "z": kind({"CPU": 4, "z": 1}, priority=5),
            },
            requests=[ask({"CPU": 4})] * 2,
            availability={"y": 0.1},
            recovering={"z": 0.5},
        ),
        {"y": 2},
    ),
    Case(
        "use comes before availability",
        lambda: Cluster(
            {"x": kind({"CPU": 8}), "y": kind({"CPU": 4})}, requests=[ask({"CPU": 4})], availability={"y": 0.1}
        ),
        {"y": 1},
    ),
    Case(
        "order of requests does not matter",
        lambda: Cluster(
            {"gpu": kind({"CPU": 1, "GPU": 1}, high=1), "cpu": kind({"CPU": 3}, high=1)},
            requests=[ask({"CPU": 1}), ask({"CPU": 1, "GPU": 1}), ask({"CPU": 1}), ask({"CPU": 1})],
        ),
        {"gpu": 1, "cpu": 1},
    ),
    Case(
        "fragments are not joined",
        lambda: Cluster(
            {"gpu": kind({"CPU": 1, "GPU": 1}, high=1), "cpu": kind({"CPU": 3}, high=1)},
            requests=[ask({"CPU": 1, "GPU": 1}), ask({"CPU": 1})],
        ).running("gpu", {"CPU": 0, "GPU": 1}),
        {"cpu": 1},
        infeasible=1,
    ),
]

LABELS = [
    Case(
        "a running node with the label serves",
        lambda: Cluster(_zones(), requests=[ask({"CPU": 1}, [("zone", IN, ["north"])])]).running("north"),
    ),
    Case(
        "a node with the label is launched",
        lambda: Cluster(_zones(), requests=[ask({"CPU": 1}, [("zone", IN, ["south"])])]),
        {"south": 1},
    ),
    Case(
        "not this label",
        lambda: Cluster(_zones(), requests=[ask({"CPU": 1}, [("zone", NOT_IN, ["north"])])]),
        {"south": 1},
    ),
    Case(
        "not a label that nobody has",
        lambda: Cluster({"a": kind({"CPU": 1})}, requests=[ask({"CPU": 1}, [("zone", NOT_IN, ["north"])])]),
        {"a": 1},
    ),
    Case(
        "no node has the label",
        lambda: Cluster(_zones(), requests=[ask({"CPU": 1}, [("zone", IN, ["west"])])]),
        infeasible=1,
    ),
    Case(
        "every condition of a selector must hold",
        lambda: Cluster(
            {
                "a": kind({"CPU": 1}, labels={"zone": "n", "disk": "hdd"}),
                "b": kind({"CPU": 1}, labels={"zone": "n", "disk": "ssd"}),
            },
            requests=[ask({"CPU": 1}, [("zone", IN, ["n"]), ("disk", NOT_IN, ["hdd"])])],
        ),
        {"b": 1},
    ),
    Case(
        "the first alternative is preferred",
        lambda: Cluster(_zones(), requests=[ask({"CPU": 1}, [("zone", IN, ["south"])], [("zone", IN, ["north"])])]),
        {"south": 1},
    ),
    Case(
        "the next alternative serves when the first cannot",
        lambda: Cluster(_zones(), requests=[ask({"CPU": 1}, [("zone", IN, ["west"])], [("zone", IN, ["north"])])]),
        {"north": 1},
    ),
    Case(
        "labels of the node, not of its type, count",
        lambda: Cluster(_zones(), requests=[ask({"CPU": 1}, [("zone", IN, ["moved"])])]).running(
            "north", labels={"zone": "moved"}
        ),
    ),
    Case(
        "what is picky is placed before what is not",
        lambda: (
            Cluster(_zones(), requests=[ask({"CPU": 2}), ask({"CPU": 1}, [("zone", IN, ["north"])])])
            .running("north")
            .running("south")
        ),
    ),
]

GANGS = [
    Case(
        "bundles that go together share one node",
        lambda: Cluster(_boxes(), gangs=[gang(*[ask({"CPU": 2}, together="g")] * 2)]),
        {"box": 1},
    ),
    Case(
        "bundles that go apart take one node each",
        lambda: Cluster(_boxes(), gangs=[gang(*[ask({"CPU": 1}, apart="g")] * 3)]),
        {"box": 3},
    ),
    Case(
        "the older field says the same",
        lambda: Cluster(_boxes(), gangs=[gang(*[ask({"CPU": 1}, apart="g")] * 3, older=True)]),
        {"box": 3},
    ),
    Case(
        "too large together: nothing at all",
        lambda: Cluster(_boxes(), gangs=[gang(*[ask({"CPU": 3}, together="g")] * 2)]),
        infeasible_gangs=1,
    ),
    Case(
        "too many apart: nothing at all",
        lambda: Cluster(_boxes(2), gangs=[gang(*[ask({"CPU": 1}, apart="g")] * 3)]),
        infeasible_gangs=1,
    ),
    Case(
        "one bundle that fits nowhere sinks the gang, not its neighbours",
        lambda: Cluster(
            _boxes(), gangs=[gang(ask({"CPU": 1}), ask({"GPU": 1})), gang(ask({"CPU": 4}), ask({"CPU": 4}))]
        ),
        {"box": 2},
        infeasible_gangs=1,
    ),
    Case(
        "bundles apart avoid nodes that carry the group's mark",
        lambda: Cluster(_boxes(), gangs=[gang(ask({"CPU": 1}, apart="g"))]).running("box", marks={"g": "1"}),
        {"box": 1},
    ),
    Case(
        "groups apart do not avoid one another",
        lambda: Cluster(_boxes(), gangs=[gang(*[ask({"CPU": 2}, apart=name)] * 2) for name in "gh"]),
        {"box": 2},
    ),
    Case(
        "bundles together with different selectors go to different nodes",
        lambda: Cluster(
            _zones(),
            gangs=[
                gang(
                    ask({"CPU": 1}, [("zone", IN, ["north"])], together="g"),
                    ask({"CPU": 1}, [("zone", IN, ["south"])], together="g"),
                )
            ],
        ),
        {"north": 1, "south": 1},
    ),
    Case(
        "gangs come before single requests",
        lambda: Cluster(_boxes(1), gangs=[gang(ask({"CPU": 2}), ask({"CPU": 2}))], requests=[ask({"CPU": 4})]),
        {"box": 1},
        infeasible=1,
    ),
    Case(
        "a gang uses what is free and buys the rest",
        lambda: Cluster(_boxes(), gangs=[gang(*[ask({"CPU": 4})] * 3)]).running("box").coming("box"),
        {"box": 1},
    ),
    Case(
        "a mark set while packing is a label for what comes after",
        lambda: Cluster(
            _boxes(1),
            requests=[
                ask({"CPU": 1}, [("here", IN, ["yes"])], apart="first"),
                ask({"CPU": 1}, [("first", IN, ["1"])], apart="second"),
            ],
        ).running("box", labels={"here": "yes"}),
    ),
]

CONSTRAINTS = [
    Case("what is asked for is bought", lambda: Cluster(_boxes(), constraints=[ask({"CPU": 4})] * 2), {"box": 2}),
    Case(
        "busy nodes count whole",
        lambda: Cluster(_boxes(), constraints=[ask({"CPU": 4})] * 2).running("box", {"CPU": 0}, count=2),
    ),
    Case("minimum nodes count", lambda: Cluster(_boxes(low=1), constraints=[ask({"CPU": 4})]), {"box": 1}),
    Case(
        "all or nothing",
        lambda: Cluster(_boxes(2, low=1), constraints=[ask({"CPU": 4})] * 3),
        {"box": 1},
        infeasible_constraints=1,
    ),
    Case(
        "demand uses what was asked for",
        lambda: Cluster(_boxes(), constraints=[ask({"CPU": 4})] * 2, requests=[ask({"CPU": 4})] * 2),
        {"box": 2},
    ),
    Case(
        "nodes that were asked for are not idle",
        lambda: _idle(constraints=[ask({"CPU": 4})] * 2),
    ),
]

GIVING_BACK = [
    Case("an idle node goes, the head stays", _idle, ends={"i2": IDLE}),
    Case("a node that demand needs stays", lambda: _idle(requests=[ask({"CPU": 4})])),
    Case("a node that a gang needs stays", lambda: _idle(gangs=[gang(ask({"CPU": 1}))])),
    Case("a minimum node stays", lambda: Cluster(_boxes(low=1), idle_s=1).running("box", idle_s=100)),
    Case(
        "of several idle ones the minimum stays",
        lambda: Cluster(_boxes(low=1), idle_s=1).running("box", idle_s=50).running("box", idle_s=100),
        ends={"i1": IDLE},
    ),
    Case("idle for just the time is not too long", lambda: Cluster(_boxes(), idle_s=60).running("box", idle_s=60)),
    Case("no time-out, nothing goes", lambda: Cluster(_boxes()).running("box", idle_s=9999)),
    Case(
        "a type has its own time-out",
        lambda: (
            Cluster({"a": kind({"CPU": 1}, idle_timeout_s=10), "b": kind({"CPU": 1})}, idle_s=60)
            .running("a", idle_s=30)
            .running("b", idle_s=30)
        ),
        ends={"i0": IDLE},
    ),
    Case(
        "an outdated node goes and its minimum is replaced",
        lambda: Cluster(_config()).running("box", config_hash="old").running("head", head=True, config_hash="old"),
        {"box": 1},
        {"i0": OUTDATED},
    ),
    Case("an up-to-date node stays", lambda: Cluster(_config()).running("box", config_hash="new")),
    Case(
        "nodes stay when the check is off",
        lambda: Cluster(_config(), keep_outdated=True).running("box", config_hash="old"),
    ),
    Case("a launch of a type that is gone goes", lambda: Cluster(_boxes()).coming("gone"), ends={"i0": OUTDATED}),
    Case(
        "a launch of a type that is gone stays when the check is off",
        lambda: Cluster(_boxes(), keep_outdated=True).coming("gone"),
    ),
    Case(
        "a node that has ended is no node",
        lambda: Cluster(_boxes(), requests=[ask({"CPU": 1})]).coming("box", Instance.TERMINATED),
        {"box": 1},
    ),
    Case(
        "a launch that failed is no node",
        lambda: Cluster(_boxes(low=1)).coming("box", Instance.ALLOCATION_FAILED),
        {"box": 1},
    ),
]

CASES = [*MINIMUM, *MAXIMUM, *DEMAND, *CHOICE, *LABELS, *GANGS, *CONSTRAINTS, *GIVING_BACK]

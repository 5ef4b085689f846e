"""The demo's verdict: a good account has nothing unexpected, and each thing that can go wrong is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from ostler.core.errors import BadInput
from ostler.demo import lines, story, verdict
from ostler.demo.account import Account, Transition
from ostler.demo.judges import TWICE
from ostler.demo.story import CANARY, SLOW, WORK_ENDS
from ostler.twin.script import parse
from ostler.twin.spec import fleet, running

LINES = lines.Lines(lines.OWN, "own")
SPECS = fleet(23, 0)
NAMES = [spec.name for spec in SPECS]
RUNNING = [spec.name for spec in running(6, 0, 23)]
STORY = story.write(SPECS, running(6, 0, 23), LINES)
SILENT, FALLEN, CARELESS, BUSY, FIRST, SECOND, BROKEN, ALONE, *REST = NAMES
LEAF, (FAILING, LEAKING, SLOWER, UNWATCHED, CROSSED, PULLED, BYSTANDER) = REST[:8], REST[8:]
BEGAN = 10_000.0


def moves(node: str, *steps: tuple[float, str]) -> list[Transition]:
    return [Transition(node, None, to, "cause", "", BEGAN + at, None) for at, to in ((-900.0, "production"), *steps)]


def finding(node: str, fault: str, **more: Any) -> dict[str, Any]:
    said = {"id": f"f-{node}-{fault}", "node_id": f"id-{node}", "fault": fault, "device": ""}
    return {**said, "cleared_at": "then", "incident_id": None, **more}


def decision(node: str, verdict_: str, action: str, timing: str = "immediate", fault: str = "xid") -> dict[str, Any]:
    row = {"node_id": f"id-{node}", "finding_id": "f", "verdict": verdict_, "action": action, "timing": timing}
    return {**row, "fault": fault, "at": "then", "reasons": ["why"]}


def ticket(node: str, by: str, **more: Any) -> dict[str, Any]:
    """One about plugs, as it ends well."""
    closing = {"by": "ostler:fabric", "evidence": f"{by} sees it right", "technician": {"by": "token:ada"}}
    said = {"id": f"t-{node}", "node_id": f"id-{node}", "subject": "cable", "instruction": "move", "steps": [{}, {}]}
    return {**said, "state": "done", "closing": closing, **more}


def look(*causes: str) -> dict[str, Any]:
    """What the server makes of a look at the fabric; a node that is down is nobody's work."""
    found = [{"kind": kind, "message": "why", "ticket": kind != "node-down"} for kind in causes]
    return {"causes": found, "cables": {"ok": 9}, "coverage": {}}


def day_1(node: str) -> list[Transition]:
    """The way of the node that was delivered with two plugs exchanged."""
    why = ("seatrial-failed", "cabling: mlx5_0 is plugged into that, mlx5_1 into this")
    return [Transition(node, None, to, *(why if to == "triage" else ("", "")), BEGAN - 900, None) for to in TWICE]


def good() -> Account:
    """What a demo that went well looks like."""
    cured = {FALLEN: 100.0, BUSY: WORK_ENDS + 50, FIRST: 2200.0, SECOND: 3000.0, ALONE: 4000.0}
    left = {BROKEN: ((3600.0, "reboot"), (4200.0, "triage")), LEAKING: ((2500.0, "triage"),)}
    left[FAILING] = (*((200.0 + 100 * n, to) for n, to in enumerate(("reboot", "production") * 3)), (900.0, "triage"))
    every = [*NAMES, *RUNNING]
    transitions = day_1(CROSSED)
    transitions += [one for name in every if name not in {*cured, *left, CROSSED} for one in moves(name)]
    for name, at in cured.items():
        transitions += moves(name, (at, "reboot"), (at + 600, "production"))
    for name, steps in left.items():
        transitions += moves(name, *steps)
    wide = {"kind": "gpu", "code": "pcie-width"}
    return Account(
        states={**dict.fromkeys(every, "production"), **dict.fromkeys(left, "triage")},
        transitions=transitions,
        findings=[
            finding(SILENT, "silent"),
            *(finding(name, "ib-port-down", incident_id="i1") for name in LEAF),
            *(finding(name, "gpu-pcie-gen", incident_id="i2", cleared_at=None) for name in LEAF[:6]),
            finding(SLOWER, "gpu-slower-than-peers", device=SLOW[:-2], cleared_at=None),
            finding(UNWATCHED, "monitor-dead", device="infiniband"),
            finding(UNWATCHED, "gpu-pcie-width"),
            finding(PULLED, "ib-uncabled", device="mlx5_3/1"),
        ],
        incidents=[
            {"id": "i1", "cause": "shared-domain", "scope": "fabric", "subject": "leaf02", "closed_at": "then"},
            {"id": "i2", "cause": "configuration", "scope": "driver", "subject": f"x {CANARY}", "closed_at": None},
        ],
        decisions=[
            decision(FALLEN, "act", "reboot"),
            decision(BUSY, "act", "reset-gpu", "pending"),
            decision(FIRST, "act", "reboot"),
            decision(SECOND, "held", "reboot"),
            decision(SECOND, "act", "reboot"),
            decision(ALONE, "act", "restart-service", "pending"),
            *(decision(FAILING, "act", action) for action in ("reset-gpu", "reboot", "power-cycle", "rma")),
            decision(LEAKING, "act", "power-off"),
            decision(RUNNING[1], "would-act", "reboot", fault="gpu-off-bus"),
            decision(RUNNING[4], "would-act", "reset-gpu", "pending", fault="gpu-ecc-uncorrected"),
        ],
        tickets=[
            {"node_id": f"id-{BROKEN}", "instruction": "look", "subject": "node"},
            {"node_id": f"id-{FAILING}", "instruction": "Return it", "subject": "node"},
            {"node_id": f"id-{LEAKING}", "instruction": "mend the leak", "subject": "node"},
            ticket(CROSSED, "Seatrial"),
            ticket(PULLED, "snapshot 3"),
        ],
        why={},
        signals={
            CARELESS: [{"kind": "xid", "code": "13"}, {"kind": "xid", "code": "31"}],
            UNWATCHED: [wide, wide, {"kind": "monitor", "code": "dead"}],
        },
        ids={f"id-{name}": name for name in every},
        nodes={
            name: {
                "conditions": [{"type": "PowerLocked"}] if name == LEAKING else [],
                "cordoned": name in left,
                "last_seen": "now",
            }
            for name in every
        },
        cases=[{"node_id": f"id-{FAILING}", "part": "gpu"}],
        pages=[{"summary": f"{LEAKING}: a leak", "urgency": "critical"}],
        bmc_writes={LEAKING: ['POST ComputerSystem.Reset {"ResetType": "ForceOff"}'], FALLEN: ["POST x"]},
        causes=[{"ports": [f"{PULLED} mlx5_3", "leaf 6"], "state": "cleared", "ticket_id": f"t-{PULLED}"}],
        looks=[look("node-down"), look("cable-absent"), look()],
    )


def test_a_good_account_has_nothing_unexpected() -> None:
    assert verdict.unexpected(STORY, good(), BEGAN) == []


def without(account: Account, what: str, **match: Any) -> Account:
    rows = [row for row in getattr(account, what) if not all(row[key] == value for key, value in match.items())]
    assert len(rows) < len(getattr(account, what))
    changed: dict[str, Any] = {what: rows}
    return replace(account, **changed)


def changed(account: Account, what: str, match: Mapping[str, Any], **to: Any) -> Account:
    """Rows that match get other values."""
    rows = [{**row, **to} if match.items() <= row.items() else row for row in getattr(account, what)]
    assert rows != list(getattr(account, what))
    found: dict[str, Any] = {what: rows}
    return replace(account, **found)


def also(account: Account, what: str, *rows: Any) -> Account:
    found: dict[str, Any] = {what: [*getattr(account, what), *rows]}
    return replace(account, **found)


def later(account: Account, node: str, to: str, at: float) -> Account:
    rows = [replace(t, at=BEGAN + at) if (t.node, t.to) == (node, to) else t for t in account.transitions]
    return replace(account, transitions=rows)


def moved(account: Account, node: str, to: str) -> Account:
    return also(account, "transitions", *moves(node, (1.0, to))[1:])


def seen(account: Account, node: str, **to: Any) -> Account:
    return replace(account, nodes={**account.nodes, node: {**account.nodes[node], **to}})


Spoil = Callable[[Account], Account]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "a node in the wrong state": (lambda a: replace(a, states={**a.states, FALLEN: "triage"}), FALLEN),
    "a cured node was never rebooted": (
        lambda a: replace(a, transitions=[t for t in a.transitions if t.node != FALLEN or t.to != "reboot"]),
        FALLEN,
    ),
    "the silent node was rebooted": (lambda a: moved(a, SILENT, "reboot"), SILENT),
    "silence unnoticed": (lambda a: without(a, "findings", fault="silent"), SILENT),
    "silence not over": (lambda a: changed(a, "findings", {"fault": "silent"}, cleared_at=None), "counts as silent"),
    "application errors lost": (
        lambda a: replace(a, signals={**a.signals, CARELESS: [{"kind": "xid", "code": "13"}]}),
        "31",
    ),
    "application errors acted on": (lambda a: moved(a, CARELESS, "triage"), CARELESS),
    "the workload was not waited for": (lambda a: later(a, BUSY, "reboot", 10), "workload"),
    "the busy node was rebooted instead": (
        lambda a: changed(a, "decisions", {"node_id": f"id-{BUSY}"}, action="reboot"),
        "was to get reset-gpu",
    ),
    "the brake held nobody": (lambda a: without(a, "decisions", verdict="held"), "held neither"),
    "two disrupted at once": (lambda a: later(a, SECOND, "reboot", 2300), "same time"),
    "no ticket": (lambda a: without(a, "tickets", instruction="look"), "there is no ticket"),
    "the fabric manager was not restarted": (lambda a: without(a, "decisions", action="restart-service"), ALONE),
    # the storm
    "a lost port without a finding": (
        lambda a: without(a, "findings", node_id=f"id-{LEAF[0]}", fault="ib-port-down"),
        f"{LEAF[0]} has no finding",
    ),
    "a lost port outside the incident": (
        lambda a: changed(a, "findings", {"fault": "ib-port-down", "node_id": f"id-{LEAF[3]}"}, incident_id=None),
        "folded",
    ),
    "two incidents": (
        lambda a: changed(a, "findings", {"fault": "ib-port-down", "node_id": f"id-{LEAF[3]}"}, incident_id="i9"),
        "2 incidents",
    ),
    "the incident stays open": (lambda a: changed(a, "incidents", {"id": "i1"}, closed_at=None), "still open"),
    "a port stays down": (
        lambda a: changed(a, "findings", {"fault": "ib-port-down", "node_id": f"id-{LEAF[3]}"}, cleared_at=None),
        "counts as down",
    ),
    "the storm was taken for a configuration": (
        lambda a: changed(a, "incidents", {"id": "i1"}, cause="configuration"),
        "not by the leaf switch",
    ),
    "a node was blamed for the leaf switch": (
        lambda a: also(a, "decisions", decision(LEAF[1], "act", "reboot", fault="ib-port-down")),
        f"{LEAF[1]} got reboot",
    ),
    "a node of the leaf was rebooted": (lambda a: moved(a, LEAF[7], "reboot"), LEAF[7]),
    # the rollout
    "a node was blamed for the driver": (
        lambda a: also(a, "decisions", decision(LEAF[2], "act", "reboot", "pending", "gpu-pcie-gen")),
        f"{LEAF[2]} got reboot",
    ),
    "the rollout was not seen": (
        lambda a: changed(a, "findings", {"fault": "gpu-pcie-gen"}, incident_id=None),
        "the nodes with the new driver became 0 incidents",
    ),
    "the rollout was taken for the SKU's": (
        lambda a: changed(a, "incidents", {"id": "i2"}, subject="hgx-h100-8"),
        "not by the driver",
    ),
    # the repeat failer
    "a rung was left out": (
        lambda a: without(a, "decisions", node_id=f"id-{FAILING}", action="power-cycle"),
        "climbed reset-gpu → reboot → rma",
    ),
    "it went to triage at once": (
        lambda a: replace(a, transitions=[t for t in a.transitions if t.node != FAILING or t.to != "reboot"]),
        f"{FAILING} went through production",
    ),
    "nobody says that it goes back": (lambda a: without(a, "tickets", node_id=f"id-{FAILING}"), "goes back"),
    "no case": (lambda a: replace(a, cases=[]), "no case"),
    # the leak
    "the leak was rebooted": (lambda a: moved(a, LEAKING, "reboot"), LEAKING),
    "the leaking node is not locked": (lambda a: seen(a, LEAKING, conditions=[]), "not locked"),
    "no ticket for the leak": (lambda a: without(a, "tickets", node_id=f"id-{LEAKING}"), "no ticket about the leak"),
    "nobody is called": (lambda a: replace(a, pages=[]), "nobody is called"),
    "power was not taken": (lambda a: replace(a, bmc_writes={}), "the last that the BMC"),
    "it was switched on again": (
        lambda a: replace(a, bmc_writes={LEAKING: [*a.bmc_writes[LEAKING], 'POST ComputerSystem.Reset "On"']}),
        "not to switch off",
    ),
    # what is only watched
    "the slow GPU was not found": (lambda a: without(a, "findings", fault="gpu-slower-than-peers"), "no place"),
    "another GPU is called slow": (
        lambda a: changed(a, "findings", {"fault": "gpu-slower-than-peers"}, device="0000:18:00"),
        "0000:18:00",
    ),
    "another node is called slow": (
        lambda a: also(a, "findings", finding(BUSY, "gpu-slower-than-peers", device=SLOW)),
        f"{BUSY} has no slow GPU",
    ),
    "the slow GPU was reset": (
        lambda a: also(a, "decisions", decision(SLOWER, "act", "reset-gpu", fault="gpu-slower-than-peers")),
        f"{SLOWER} got reset-gpu",
    ),
    "the dead monitor was not missed": (lambda a: without(a, "findings", fault="monitor-dead"), "monitor"),
    "the monitor stays dead": (
        lambda a: changed(a, "findings", {"fault": "monitor-dead"}, cleared_at=None),
        "counts as dead",
    ),
    "the false alarm was never heard": (lambda a: replace(a, signals={CARELESS: a.signals[CARELESS]}), "0 times"),
    "the false alarm stands": (
        lambda a: changed(a, "findings", {"fault": "gpu-pcie-width"}, cleared_at=None),
        "count as lost",
    ),
    "the false alarm was acted on": (
        lambda a: also(a, "decisions", decision(UNWATCHED, "act", "reboot", fault="gpu-pcie-width")),
        "not settled",
    ),
    "the false alarm was only held by the brake": (
        lambda a: also(a, "decisions", decision(UNWATCHED, "held", "reboot", fault="gpu-pcie-width")),
        "not settled",
    ),
    # the exchanged plugs
    "the exchanged plugs were not found": (
        lambda a: replace(a, transitions=[t for t in a.transitions if (t.node, t.to) != (CROSSED, "triage")]),
        "not through Seatrial, triage and Seatrial again",
    ),
    "Seatrial failed by something else": (
        lambda a: replace(
            a, transitions=[replace(t, reason="a GPU is missing") if t.to == "triage" else t for t in a.transitions]
        ),
        "not for its plugs",
    ),
    "the node with the exchanged plugs went on": (lambda a: moved(a, CROSSED, "reboot"), f"{CROSSED} went through"),
    "a ticket that cannot be done": (lambda a: replace(a, hitches=["Move it. move: taken"]), "crossed: Move it."),
    "no ticket for the plugs": (lambda a: without(a, "tickets", node_id=f"id-{CROSSED}"), "crossed: " + CROSSED),
    "two tickets for one cause": (
        lambda a: also(a, "tickets", ticket(CROSSED, "Seatrial", id="t-9")),
        "has 2 tickets about its cables",
    ),
    "more steps than there are plugs": (
        lambda a: changed(a, "tickets", {"id": f"t-{CROSSED}"}, steps=[{}] * 3),
        "3 steps instead of 2",
    ),
    "the proof did not come": (
        lambda a: changed(a, "tickets", {"id": f"t-{CROSSED}"}, state="verifying"),
        "is verifying, not done",
    ),
    "closed by a word": (
        lambda a: changed(
            a, "tickets", {"id": f"t-{CROSSED}"}, closing={"by": "token:ada", "evidence": "Seatrial was fine, I think"}
        ),
        "was closed by token:ada",
    ),
    "it mended itself": (
        lambda a: changed(
            a, "tickets", {"id": f"t-{PULLED}"}, closing={"by": "ostler:fabric", "evidence": "snapshot 3"}
        ),
        "without a technician's work",
    ),
    # the pulled cable
    "no look after the repair": (lambda a: replace(a, looks=a.looks[:2]), "2 looks were taken"),
    "the first look was not clean": (
        lambda a: replace(a, looks=[look("miscabled"), *a.looks[1:]]),
        "look 1 shows miscabled",
    ),
    "the pulled cable was not seen": (
        lambda a: replace(a, looks=[look(), look("node-down"), look()]),
        "one cable absent; it shows nothing",
    ),
    "more was seen than was pulled": (
        lambda a: replace(a, looks=[look(), look("cable-absent", "degraded"), look()]),
        "one cable absent; it shows cable-absent",
    ),
    "the mended cable is still seen": (
        lambda a: replace(a, looks=[*a.looks[:2], look("cable-absent")]),
        "look 3 shows cable-absent",
    ),
    "one cable, two causes": (lambda a: also(a, "causes", *a.causes), "2 causes instead of one"),
    "the cause stands": (lambda a: replace(a, causes=[{**a.causes[0], "state": "open"}]), "its cause is open"),
    "a cause without its ticket": (
        lambda a: replace(a, causes=[{**a.causes[0], "ticket_id": None}]),
        "has not the ticket",
    ),
    "the node was not told of its cable": (lambda a: without(a, "findings", fault="ib-uncabled"), "0 findings"),
    "another port was told of": (
        lambda a: changed(a, "findings", {"fault": "ib-uncabled"}, device="mlx5_4/1"),
        "not one at mlx5_3/1",
    ),
    "the node's cable stays out": (
        lambda a: changed(a, "findings", {"fault": "ib-uncabled"}, cleared_at=None),
        "counts as uncabled",
    ),
    "the node was rebooted for its cable": (
        lambda a: also(a, "decisions", decision(PULLED, "act", "reboot", fault="ib-uncabled")),
        f"{PULLED} got reboot",
    ),
    # the adopted fleet
    "nothing is told of the adopted fleet": (
        lambda a: without(a, "decisions", verdict="would-act", action="reset-gpu"),
        "adopted: of the adopted nodes",
    ),
    "an adopted node was acted on": (
        lambda a: also(a, "decisions", decision(RUNNING[1], "act", "reboot")),
        f"{RUNNING[1]} is only observed, and got",
    ),
    "an adopted node was rebooted": (lambda a: moved(a, RUNNING[1], "reboot"), RUNNING[1]),
    "an adopted node's BMC was written to": (
        lambda a: replace(a, bmc_writes={**a.bmc_writes, RUNNING[0]: ["PATCH /Systems"]}),
        "its BMC was told PATCH",
    ),
    "an adopted node was cordoned": (lambda a: seen(a, RUNNING[2], cordoned=True), "cordoned"),
    "an adopted node went through Day 0": (
        lambda a: replace(
            a, transitions=[Transition(RUNNING[3], None, "discovered", "", "", 1.0, None), *a.transitions]
        ),
        "taken in as discovered",
    ),
    "an adopted node never spoke": (lambda a: seen(a, RUNNING[3], last_seen=None), "nothing was heard"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_went_wrong_is_seen(name: str) -> None:
    spoil, word = SPOILT[name]
    wrong = verdict.unexpected(STORY, spoil(good()), BEGAN)
    assert wrong and word in " ".join(wrong), wrong


def test_a_bystander_that_moved_is_seen() -> None:
    wrong = verdict.unexpected(STORY, moved(good(), BYSTANDER, "debug"), BEGAN)
    assert wrong == [f"{BYSTANDER} had no part in the story and went to debug"]


def test_the_story_needs_its_nodes() -> None:
    with pytest.raises(BadInput, match="at least 22"):
        story.write(fleet(21, 0), [], LINES)


def test_the_document_says_everything() -> None:
    told = verdict.document(STORY, good(), {"delivered": 3, "verified": 3}, 12.34, [])
    assert {"nodes", "transitions", "incidents", "webhooks", "seconds", "ok", "unexpected", "held"} <= set(told)
    assert told["ok"] is True and told["seconds"] == 12.3
    assert [one["node"] for one in told["held"]] == [SECOND]
    assert [(one["node"], one["fault"], one["action"]) for one in told["would_act"]] == [
        (RUNNING[1], "gpu-off-bus", "reboot"),
        (RUNNING[4], "gpu-ecc-uncorrected", "reset-gpu"),
    ]
    bad = verdict.document(STORY, good(), {}, 1.0, ["leak: it drips"])
    assert bad["ok"] is False
    assert {one["key"]: one["unexpected"] for one in bad["acts"] if one["unexpected"]} == {"leak": ["leak: it drips"]}


@pytest.mark.parametrize("count", [22, 24, 64])
def test_each_act_has_nodes_of_its_own(count: int) -> None:
    """Only what the second rack's nodes share, and the two that change nothing on one node, overlap."""
    told = story.write(fleet(count, 0), running(6, 0, count), LINES)
    of = {act.key: set(act.nodes) for act in told.acts}
    assert of["rollout"] < of["storm"] and of["blip"] == of["monitor"]
    apart = [nodes for key, nodes in of.items() if key not in ("rollout", "blip")]
    assert sum(len(nodes) for nodes in apart) == len(set.union(*apart)) == 28


def test_the_script_can_be_read_by_the_twin() -> None:
    script = parse(STORY.script(), "story", json_lines=True)
    assert {one.node for one in script.strikes} <= {*NAMES, *RUNNING}

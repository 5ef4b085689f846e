"""The demo's verdict: a good account has nothing unexpected, and each thing that can go wrong is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ostler.core.errors import BadInput
from ostler.demo import lines, story, verdict
from ostler.demo.account import Account, Transition
from ostler.demo.story import WORK_ENDS
from ostler.twin.spec import fleet

SPECS = fleet(12, 0)
NAMES = [spec.name for spec in SPECS]
STORY = story.write(SPECS, lines.Lines(lines.OWN, "own"))
SILENT, FALLEN, CARELESS, BUSY, FIRST, SECOND, BROKEN, ALONE, *CUT = NAMES
BEGAN = 10_000.0


def moves(node: str, *steps: tuple[float, str]) -> list[Transition]:
    return [Transition(node, None, to, "cause", "", BEGAN + at, None) for at, to in ((-900.0, "production"), *steps)]


def finding(node: str, fault: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"f-{node}",
        "node_id": f"id-{node}",
        "fault": fault,
        "cleared_at": "then",
        "incident_id": None,
        **more,
    }


def decision(node: str, verdict_: str, action: str, timing: str = "immediate") -> dict[str, Any]:
    row = {"node_id": f"id-{node}", "finding_id": f"f-{node}", "verdict": verdict_, "action": action, "timing": timing}
    return {**row, "at": "then", "reasons": ["why"]}


def good() -> Account:
    """What a demo that went well looks like."""
    cured = {FALLEN: 100.0, BUSY: WORK_ENDS + 50, FIRST: 2200.0, SECOND: 3000.0, ALONE: 4000.0}
    transitions = [one for name in NAMES if name not in cured and name != BROKEN for one in moves(name)]
    for name, at in cured.items():
        transitions += moves(name, (at, "reboot"), (at + 600, "production"))
    transitions += moves(BROKEN, (3600.0, "reboot"), (4200.0, "triage"))
    return Account(
        states={**dict.fromkeys(NAMES, "production"), BROKEN: "triage"},
        transitions=transitions,
        findings=[
            finding(SILENT, "silent"),
            *(finding(name, "ib-link-down", incident_id="i1") for name in CUT),
        ],
        incidents=[{"id": "i1", "summary": "4 nodes", "closed_at": "then", "outcome": "over"}],
        decisions=[
            decision(FALLEN, "act", "reboot"),
            decision(BUSY, "act", "reset-gpu", "pending"),
            decision(FIRST, "act", "reboot"),
            decision(SECOND, "held", "reboot"),
            decision(SECOND, "act", "reboot"),
            decision(ALONE, "act", "restart-service", "pending"),
        ],
        tickets=[{"node_id": f"id-{BROKEN}", "instruction": "look"}],
        why={},
        signals={CARELESS: [{"kind": "xid", "code": "13"}, {"kind": "xid", "code": "31"}]},
        ids={f"id-{name}": name for name in NAMES},
    )


def test_a_good_account_has_nothing_unexpected() -> None:
    assert verdict.unexpected(STORY, good(), BEGAN) == []


def without(account: Account, what: str, **match: Any) -> Account:
    rows = [row for row in getattr(account, what) if not all(row[key] == value for key, value in match.items())]
    assert len(rows) < len(getattr(account, what))
    changed: dict[str, Any] = {what: rows}
    return replace(account, **changed)


Spoil = Callable[[Account], Account]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "a node in the wrong state": (lambda a: replace(a, states={**a.states, FALLEN: "triage"}), FALLEN),
    "a cured node was never rebooted": (
        lambda a: replace(a, transitions=[t for t in a.transitions if t.node != FALLEN or t.to != "reboot"]),
        FALLEN,
    ),
    "the silent node was rebooted": (
        lambda a: replace(a, transitions=[*a.transitions, *moves(SILENT, (1.0, "reboot"))[1:]]),
        SILENT,
    ),
    "silence unnoticed": (lambda a: without(a, "findings", fault="silent"), SILENT),
    "silence not over": (
        lambda a: replace(a, findings=[{**row, "cleared_at": None} for row in a.findings]),
        "silent",
    ),
    "application errors lost": (lambda a: replace(a, signals={CARELESS: [{"kind": "xid", "code": "13"}]}), "31"),
    "application errors acted on": (
        lambda a: replace(a, transitions=[*a.transitions, *moves(CARELESS, (1.0, "triage"))[1:]]),
        CARELESS,
    ),
    "the workload was not waited for": (
        lambda a: replace(
            a,
            transitions=[
                replace(t, at=BEGAN + 10) if t.node == BUSY and t.to == "reboot" else t for t in a.transitions
            ],
        ),
        "workload",
    ),
    "the busy node was rebooted instead": (
        lambda a: without(a, "decisions", action="reset-gpu"),
        "reset-gpu",
    ),
    "the brake held nobody": (lambda a: without(a, "decisions", verdict="held"), "held neither"),
    "two disrupted at once": (
        lambda a: replace(
            a,
            transitions=[
                replace(t, at=BEGAN + 2300) if t.node == SECOND and t.to == "reboot" else t for t in a.transitions
            ],
        ),
        "same time",
    ),
    "a lost link without a finding": (lambda a: without(a, "findings", node_id=f"id-{CUT[0]}"), CUT[0]),
    "a lost link outside the incident": (
        lambda a: replace(a, findings=[{**row, "incident_id": None} for row in a.findings]),
        "folded",
    ),
    "two incidents": (
        lambda a: replace(
            a,
            findings=[{**row, "incident_id": "i2"} if row["node_id"] == f"id-{CUT[0]}" else row for row in a.findings],
        ),
        "2 incidents",
    ),
    "the incident stays open": (
        lambda a: replace(a, incidents=[{**row, "closed_at": None} for row in a.incidents]),
        "still open",
    ),
    "a node was blamed for the rack's link": (
        lambda a: replace(a, decisions=[*a.decisions, decision(CUT[1], "act", "reboot")]),
        CUT[1],
    ),
    "no ticket": (lambda a: replace(a, tickets=[]), "ticket"),
    "the fabric manager was not restarted": (lambda a: without(a, "decisions", action="restart-service"), ALONE),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_went_wrong_is_seen(name: str) -> None:
    spoil, word = SPOILT[name]
    wrong = verdict.unexpected(STORY, spoil(good()), BEGAN)
    assert wrong and word in " ".join(wrong), wrong


def test_a_bystander_that_moved_is_seen() -> None:
    """On a fleet of 24 the last rack loses its links: node 10, of the second rack, has no part."""
    specs = fleet(24, 0)
    told = story.write(specs, lines.Lines(lines.OWN, "own"))
    names = [spec.name for spec in specs]
    account = replace(good(), states=dict.fromkeys(names, "production"), transitions=moves(names[9], (1.0, "debug")))
    assert any(f"{names[9]} had no part" in one for one in verdict.unexpected(told, account, BEGAN))


def test_the_story_needs_a_rack() -> None:
    with pytest.raises(BadInput, match="at least 11"):
        story.write(fleet(10, 0), lines.Lines(lines.OWN, "own"))


def test_the_document_says_everything() -> None:
    told = verdict.document(STORY, good(), {"delivered": 3, "verified": 3}, 12.34, [])
    assert {"nodes", "transitions", "incidents", "webhooks", "seconds", "ok", "unexpected", "held"} <= set(told)
    assert told["ok"] is True and told["seconds"] == 12.3
    assert [one["node"] for one in told["held"]] == [SECOND]
    assert verdict.document(STORY, good(), {}, 1.0, ["bad"])["ok"] is False


@pytest.mark.parametrize("count", [11, 16, 17, 18, 19, 40])
def test_the_links_are_lost_in_another_rack_with_enough_nodes(count: int) -> None:
    told = story.write(fleet(count, 0), lines.Lines(lines.OWN, "own"))
    cut = next(act.nodes for act in told.acts if act.key == "incident")
    others = {name for act in told.acts if act.key != "incident" for name in act.nodes}
    assert len(cut) >= story.CUT and not set(cut) & others

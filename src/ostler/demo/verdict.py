"""Did it go as the story says? Pure: an account and a story give what is unexpected. Called by `cli/demo.py`.

Each act is judged by what it is there to show, not only by where its nodes ended: that a node was rebooted, that
another was left alone, that one waited for the brake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ostler.core.clock import iso
from ostler.demo.account import Account, Row, Transition
from ostler.demo.story import WORK_ENDS, Act, Story

DAY2 = ("production", "reboot", "triage")


def unexpected(story: Story, account: Account, began: float | None) -> list[str]:
    """Sentences about what is not as it should be; empty when all is. `began`: domain time of the script's start."""
    found = [
        f"{name} is in {account.states.get(name, 'no state: it is unknown')}, it should be in {state}"
        for name, state in story.expected(list(account.states)).items()
        if account.states.get(name) != state
    ]
    for act in story.acts:
        judge = _JUDGES[act.key]
        found += [f"{act.key}: {what}" for what in judge(act, account, began or 0.0)]
    actors = {name for act in story.acts for name in act.nodes}
    for name in account.states:
        if name not in actors and (moved := after_production(account, name)):
            found.append(f"{name} had no part in the story and went to {moved[0].to}")
    return found


def held(account: Account) -> list[dict[str, Any]]:
    """What the brake held back."""
    return [_decision(account, row) for row in account.decisions if row["verdict"] == "held"]


def would_act(account: Account) -> list[dict[str, Any]]:
    """What Ostler would have done had the pool granted it: nothing in a demo that grants all."""
    return [_decision(account, row) for row in account.decisions if row["verdict"] == "would-act"]


def after_production(account: Account, node: str) -> list[Transition]:
    """A node's transitions after it first came into production."""
    moves = account.of(node)
    first = next((number for number, one in enumerate(moves) if one.to == "production"), len(moves))
    return moves[first + 1 :]


def document(
    story: Story, account: Account, webhooks: Mapping[str, int], seconds: float, wrong: Sequence[str]
) -> dict[str, Any]:
    """The one JSON document of `ostler demo --json`."""
    return {
        "nodes": dict(account.states),
        "transitions": [
            {
                "at": iso(one.at),
                "node": one.node,
                "from": one.start,
                "to": one.to,
                "cause": one.cause,
                "reason": one.reason,
                "seconds_in_from": None if one.lasted is None else round(one.lasted, 1),
            }
            for one in account.transitions
        ],
        "incidents": [dict(row) for row in account.incidents],
        "webhooks": dict(webhooks),
        "seconds": round(seconds, 1),
        "ok": not wrong,
        "unexpected": list(wrong),
        "held": held(account),
        "would_act": would_act(account),
        "acts": [{"key": act.key, "title": act.title, "nodes": list(act.nodes)} for act in story.acts],
        "lines": story.source,
    }


def _decision(account: Account, row: Row) -> dict[str, Any]:
    node = account.ids.get(row["node_id"], row["node_id"])
    return {"at": row["at"], "node": node, "action": row["action"], "reasons": list(row["reasons"])}


# One judge per act: yields what is wrong ------------------------------------------------------------------------------


def _path(account: Account, node: str) -> list[str]:
    return [one.to for one in after_production(account, node)]


def _expect_path(account: Account, node: str, *path: str) -> Iterator[str]:
    if (went := _path(account, node)) != list(path):
        yield f"{node} went through {' → '.join(went) or 'nothing'} instead of {' → '.join(path) or 'nothing'}"


def _acted(account: Account, node: str, action: str, timing: str | None = None) -> Iterator[str]:
    acts = [row for row in account.decisions_of(node) if row["verdict"] == "act"]
    if not any(row["action"] == action and timing in (None, row["timing"]) for row in acts):
        done = ", ".join(f"{row['action']} ({row['timing']})" for row in acts) or "nothing"
        yield f"{node} was to get {action}{f' ({timing})' if timing else ''}; it got {done}"


def _reboot(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    yield from _expect_path(account, act.nodes[0], "reboot", "production")
    yield from _acted(account, act.nodes[0], "reboot", "immediate")


def _recorded(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    yield from _expect_path(account, act.nodes[0])
    codes = {row["code"] for row in account.signals.get(act.nodes[0], ()) if row["kind"] == "xid"}
    if not {"13", "31"} <= codes:
        yield f"{act.nodes[0]} has the XIDs {', '.join(sorted(codes)) or 'none'} on record, not 13 and 31"


def _pending(act: Act, account: Account, began: float) -> Iterator[str]:
    node = act.nodes[0]
    yield from _expect_path(account, node, "reboot", "production")
    yield from _acted(account, node, "reset-gpu", "pending")
    moves = after_production(account, node)
    if moves and moves[0].at < began + WORK_ENDS:
        yield f"{node} was acted on while its workload still ran"


def _brake(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    for node in act.nodes:
        yield from _expect_path(account, node, "reboot", "production")
        yield from _acted(account, node, "reboot", "immediate")
    if not any(row["verdict"] == "held" for node in act.nodes for row in account.decisions_of(node)):
        yield f"the brake held neither {' nor '.join(act.nodes)}"
    all_moves = [after_production(account, node) for node in act.nodes]
    spans = sorted((moves[0].at, moves[1].at) for moves in all_moves if len(moves) > 1)
    if len(spans) == 2 and spans[1][0] < spans[0][1]:
        yield f"{' and '.join(act.nodes)} were disrupted at the same time"


def _silence(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node)
    found = [row for row in account.findings_of(node) if row["fault"] == "silent"]
    if not found:
        yield f"nobody noticed that {node} was silent"
    elif any(row["cleared_at"] is None for row in found):
        yield f"{node} is heard of again, and still counts as silent"


def _incident(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    for node in act.nodes:
        down = [row for row in account.findings_of(node) if row["fault"] == "ib-link-down"]
        if not down:
            yield f"{node} lost its link, and there is no finding"
        elif any(row["cleared_at"] is None or row["incident_id"] is None for row in down):
            yield f"{node}'s lost link was not folded into an incident, or is still open"
    incidents = {
        row["incident_id"] for row in account.findings if row["fault"] == "ib-link-down" and row["incident_id"]
    }
    if len(incidents) != 1:
        yield f"the links of one rack became {len(incidents)} incidents instead of one"
    for row in account.incidents:
        if row["id"] in incidents and row["closed_at"] is None:
            yield "the links are up again, and the incident is still open"
    for row in account.decisions:
        if account.ids.get(row["node_id"]) in act.nodes and row["verdict"] == "act":
            about = next((one for one in account.findings if one["id"] == row["finding_id"]), None)
            if about is not None and about["fault"] == "ib-link-down":
                yield f"something was done to {account.ids[row['node_id']]} for a link that the rack shares"


def _triage(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node, "reboot", "triage")
    if not any(account.ids.get(row["node_id"]) == node for row in account.tickets):
        yield f"there is no ticket for {node}"


def _service(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    yield from _expect_path(account, act.nodes[0], "reboot", "production")
    yield from _acted(account, act.nodes[0], "restart-service")


_JUDGES: Mapping[str, Callable[[Act, Account, float], Iterator[str]]] = {
    "reboot": _reboot,
    "recorded": _recorded,
    "pending": _pending,
    "brake": _brake,
    "silence": _silence,
    "incident": _incident,
    "triage": _triage,
    "service": _service,
}

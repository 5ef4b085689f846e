"""Did it go as the story says? Pure: an account and a story give what is unexpected. Called by `cli/demo.py`.

Each act is judged by what it is there to show (`judges.py`), not only by where its nodes ended: that a node was
rebooted, that another was left alone, that one waited for the brake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ostler.core.clock import iso
from ostler.demo.account import Account, Row
from ostler.demo.judges import JUDGES
from ostler.demo.story import Story


def unexpected(story: Story, account: Account, began: float | None) -> list[str]:
    """Sentences about what is not as it should be; empty when all is. `began`: domain time of the script's start."""
    found = [
        f"{name} is in {account.states.get(name, 'no state: it is unknown')}, it should be in {state}"
        for name, state in story.expected(list(account.states)).items()
        if account.states.get(name) != state
    ]
    for act in story.acts:
        found += [f"{act.key}: {what}" for what in JUDGES[act.key](act, account, began or 0.0)]
    actors = {name for act in story.acts for name in act.nodes}
    for name in account.states:
        if name not in actors and (moved := account.after_production(name)):
            found.append(f"{name} had no part in the story and went to {moved[0].to}")
    return found


def held(account: Account) -> list[dict[str, Any]]:
    """What the brake held back."""
    return [_decision(account, row) for row in account.decisions if row["verdict"] == "held"]


def would_act(account: Account) -> list[dict[str, Any]]:
    """What Ostler would have done, had the pool granted it."""
    return [_decision(account, row) for row in account.decisions if row["verdict"] == "would-act"]


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
        "cases": [{**row, "node": account.ids.get(str(row["node_id"]))} for row in account.cases],
        "pages": [dict(row) for row in account.pages],
        "tickets": [{**row, "node": account.ids.get(str(row["node_id"]))} for row in account.tickets],
        "fabric": {
            "looks": [{name: look[name] for name in ("coverage", "cables", "causes")} for look in account.looks],
            "causes": [dict(row) for row in account.causes],
            "hitches": list(account.hitches),
        },
        "bmc_writes": {node: list(said) for node, said in account.bmc_writes.items()},
        "acts": [
            {
                "key": act.key,
                "title": act.title,
                "nodes": list(act.nodes),
                "unexpected": [one for one in wrong if one.startswith(f"{act.key}: ")],
            }
            for act in story.acts
        ],
        "lines": story.source,
    }


def _decision(account: Account, row: Row) -> dict[str, Any]:
    node = account.ids.get(row["node_id"], row["node_id"])
    about = {name: row[name] for name in ("at", "action", "timing", "fault")}
    return {**about, "node": node, "reasons": list(row["reasons"])}

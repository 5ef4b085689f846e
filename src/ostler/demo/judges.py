"""One judge per act: each yields sentences about what is not as the act is there to show. Called by `verdict.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ostler.demo.account import Account, Row
from ostler.demo.story import CANARY, CROSSED, FAILING, PORT, PULLED, SLOW, WORK_ENDS, Act

LADDER = ("reset-gpu", "reboot", "power-cycle", "rma")
"""What is done about the GPU that no repair cures, in this order."""
TWICE = ("discovered", "onboard", "seatrial", "triage", "onboard", "seatrial", "zap", "test", "production")
"""Day 0 and Day 1 of a node that was delivered with a wrong cable."""
WOULD = {"gpu-off-bus": "reboot", "gpu-ecc-uncorrected": "reset-gpu"}
"""Fault of an adopted node → what Ostler would do about it."""


def _path(account: Account, node: str) -> list[str]:
    return [one.to for one in account.after_production(node)]


def _expect_path(account: Account, node: str, *path: str) -> Iterator[str]:
    if (went := _path(account, node)) != list(path):
        yield f"{node} went through {' → '.join(went) or 'nothing'} instead of {' → '.join(path) or 'nothing'}"


def _acted(account: Account, node: str, action: str, timing: str | None = None) -> Iterator[str]:
    acts = account.decisions_of(node, "act")
    if not any(row["action"] == action and timing in (None, row["timing"]) for row in acts):
        done = ", ".join(f"{row['action']} ({row['timing']})" for row in acts) or "nothing"
        yield f"{node} was to get {action}{f' ({timing})' if timing else ''}; it got {done}"


def _untouched(account: Account, nodes: Sequence[str], fault: str) -> Iterator[str]:
    for row in account.acted(nodes, fault):
        yield f"{account.ids[row['node_id']]} got {row['action']} for {fault}"


def _found(account: Account, node: str, fault: str) -> list[Row]:
    return [row for row in account.findings_of(node) if row["fault"] == fault]


def _crossed(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node)
    if (went := tuple(one.to for one in account.of(node))[: len(TWICE)]) != TWICE:
        yield f"{node} went {' → '.join(went)} before production, not through Seatrial, triage and Seatrial again"
    for one in account.of(node):
        if one.to == "triage" and not (one.cause == "seatrial-failed" and all(hca in one.reason for hca in CROSSED)):
            yield f"{node} went to triage by {one.cause} ({one.reason}), not for its plugs in {' and '.join(CROSSED)}"
    yield from account.hitches
    yield from _proved(account, node, 2, "Seatrial")


def _pulled(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node)
    if len(account.looks) != 3:
        yield f"{len(account.looks)} looks were taken at the whole fabric, not one before, one after, and one wanted"
    told = [[cause for cause in look["causes"] if cause["ticket"]] for look in account.looks]
    for number, causes in enumerate(told, 1):
        kinds = [f"{cause['kind']} ({cause['message']})" for cause in causes]
        if number == 2 and [cause["kind"] for cause in causes] != ["cable-absent"]:
            yield f"look 2 is to show one cable absent; it shows {', '.join(kinds) or 'nothing'}"
        elif number != 2 and kinds:
            yield f"look {number} shows {', '.join(kinds)}; no plug was out of its place"
    mine = [row for row in account.causes if f"{node} {PULLED}" in row["ports"]]
    if len(mine) != 1:
        yield f"the cable of {node} {PULLED} became {len(mine)} causes instead of one"
    for row in mine:
        if row["state"] != "cleared":
            yield f"the cable is in its place, and its cause is {row['state']}"
        if row["ticket_id"] not in {ticket["id"] for ticket in account.cable_tickets_of(node)}:
            yield f"the cable's cause has not the ticket of {node}"
    yield from _proved(account, node, 2, "snapshot")
    found = [(row["device"], row["cleared_at"] is None) for row in _found(account, node, "ib-uncabled")]
    if [device for device, _ in found] != [f"{PULLED}/1"]:
        yield f"{node} has {len(found)} findings ib-uncabled, not one at {PULLED}/1"
    elif found[0][1]:
        yield f"{node} has its cable again, and it still counts as uncabled"
    yield from _untouched(account, list(account.states), "ib-uncabled")


def _proved(account: Account, node: str, steps: int, by: str) -> Iterator[str]:
    """One ticket about the node's plugs, carried out by a technician and closed by what was seen."""
    tickets = account.cable_tickets_of(node)
    if len(tickets) != 1:
        yield f"{node} has {len(tickets)} tickets about its cables instead of one"
    for row in tickets:
        closing = row["closing"]
        if len(row["steps"]) != steps:
            yield f"the ticket of {node} has {len(row['steps'])} steps instead of {steps}"
        if row["state"] != "done":
            yield f"the ticket of {node} is {row['state']}, not done"
        elif by not in closing["evidence"] or not closing["by"].startswith("ostler:"):
            yield f"the ticket of {node} was closed by {closing['by']}: {closing['evidence']}"
        elif not closing.get("technician"):
            yield f"the ticket of {node} was closed without a technician's work"


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
    moves = account.after_production(node)
    if moves and moves[0].at < began + WORK_ENDS:
        yield f"{node} was acted on while its workload still ran"


def _brake(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    for node in act.nodes:
        yield from _expect_path(account, node, "reboot", "production")
        yield from _acted(account, node, "reboot", "immediate")
    if not any(account.decisions_of(node, "held") for node in act.nodes):
        yield f"the brake held neither {' nor '.join(act.nodes)}"
    all_moves = [account.after_production(node) for node in act.nodes]
    spans = sorted((moves[0].at, moves[1].at) for moves in all_moves if len(moves) > 1)
    if len(spans) == 2 and spans[1][0] < spans[0][1]:
        yield f"{' and '.join(act.nodes)} were disrupted at the same time"


def _silence(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node)
    found = _found(account, node, "silent")
    if not found:
        yield f"nobody noticed that {node} was silent"
    elif any(row["cleared_at"] is None for row in found):
        yield f"{node} is heard of again, and still counts as silent"


def _storm(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    yield from _one_incident(act, account, "ib-port-down", "the ports behind one leaf switch")
    for node in act.nodes:
        yield from _expect_path(account, node)
        if any(row["cleared_at"] is None for row in _found(account, node, "ib-port-down")):
            yield f"{node}'s {PORT} is up again, and still counts as down"
    folded = _incidents(account, act.nodes, "ib-port-down")
    for row in account.incidents:
        if row["id"] in folded and (row["cause"], row["scope"]) != ("shared-domain", "fabric"):
            yield f"the storm was explained as {row['cause']} of {row['scope']}, not by the leaf switch"
        if row["id"] in folded and row["closed_at"] is None:
            yield "the ports are up again, and the incident is still open"


def _rollout(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    yield from _one_incident(act, account, "gpu-pcie-gen", "the nodes with the new driver")
    for node in act.nodes:
        yield from _expect_path(account, node)
    folded = _incidents(account, act.nodes, "gpu-pcie-gen")
    for row in account.incidents:
        if row["id"] in folded and (row["cause"] != "configuration" or CANARY not in row["subject"]):
            yield f"the rollout was explained as {row['cause']} of {row['subject']}, not by the driver {CANARY}"


def _one_incident(act: Act, account: Account, fault: str, who: str) -> Iterator[str]:
    for node in act.nodes:
        found = _found(account, node, fault)
        if not found:
            yield f"{node} has no finding {fault}"
        elif any(row["incident_id"] is None for row in found):
            yield f"{node}'s {fault} was not folded into an incident"
    if len(folded := _incidents(account, act.nodes, fault)) != 1:
        yield f"{who} became {len(folded)} incidents instead of one"
    yield from _untouched(account, act.nodes, fault)


def _incidents(account: Account, nodes: Sequence[str], fault: str) -> set[str]:
    rows = [row for node in nodes for row in _found(account, node, fault)]
    return {str(row["incident_id"]) for row in rows if row["incident_id"]}


def _triage(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node, "reboot", "triage")
    if not account.tickets_of(node):
        yield f"there is no ticket for {node}"


def _service(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    yield from _expect_path(account, act.nodes[0], "reboot", "production")
    yield from _acted(account, act.nodes[0], "restart-service")


def _repeat(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node, *("reboot", "production") * 3, "triage")
    done = tuple(row["action"] for row in account.decisions_of(node, "act"))
    if done != LADDER:
        yield f"{node} climbed {' → '.join(done) or 'nothing'} instead of {' → '.join(LADDER)}"
    if not any("Return" in row["instruction"] for row in account.tickets_of(node)):
        yield f"no ticket says that the GPU of {node} goes back"
    if not any(account.ids.get(str(row["node_id"])) == node and row["part"] == "gpu" for row in account.cases):
        yield f"there is no case for the GPU at {FAILING} of {node}"


def _leak(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node, "triage")
    yield from _acted(account, node, "power-off", "immediate")
    if "PowerLocked" not in account.conditions_of(node):
        yield f"the power of {node} is not locked"
    if not any("leak" in row["instruction"] for row in account.tickets_of(node)):
        yield f"there is no ticket about the leak of {node}"
    if not any(node in row["summary"] and row["urgency"] == "critical" for row in account.pages):
        yield f"nobody is called about the leak of {node}"
    told = [one for one in account.bmc_writes.get(node, ()) if "ComputerSystem.Reset" in one]
    if not told or "ForceOff" not in told[-1]:
        yield f"the last that the BMC of {node} was told is {told[-1] if told else 'nothing'}, not to switch off"


def _slow(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node)
    devices = {row["device"] for row in _found(account, node, "gpu-slower-than-peers")}
    if devices != {SLOW.removesuffix(".0")}:
        yield f"{node} has slow GPUs at {', '.join(sorted(devices)) or 'no place'}, not at {SLOW}"
    others = {account.ids.get(row["node_id"]) for row in account.findings if row["fault"] == "gpu-slower-than-peers"}
    if others - {node}:
        yield f"{', '.join(sorted(map(str, others - {node})))} has no slow GPU and is blamed for one"
    yield from _untouched(account, act.nodes, "gpu-slower-than-peers")


def _monitor(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node)
    found = _found(account, node, "monitor-dead")
    if [row["device"] for row in found] != ["infiniband"]:
        yield f"nobody noticed that a monitor of {node} is dead, or somebody saw another"
    elif found[0]["cleared_at"] is None:
        yield f"the monitor of {node} works again, and still counts as dead"


def _blip(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    node = act.nodes[0]
    yield from _expect_path(account, node)
    said = [row for row in account.signals.get(node, ()) if (row["kind"], row["code"]) == ("gpu", "pcie-width")]
    if len(said) < 2:
        yield f"{node} told of the lost lanes {len(said)} times, not of their beginning and end"
    if any(row["cleared_at"] is None for row in _found(account, node, "gpu-pcie-width")):
        yield f"{node} has its lanes again, and they still count as lost"
    for row in account.decisions_of(node):
        if row["fault"] == "gpu-pcie-width" and row["verdict"] != "record":
            yield f"{node}'s lost lanes were not settled before it was decided to {row['action']} ({row['verdict']})"


def _adopted(act: Act, account: Account, began: float) -> Iterator[str]:
    del began
    struck = {row["fault"]: row["action"] for node in act.nodes for row in account.decisions_of(node, "would-act")}
    if struck != WOULD:
        yield f"of the adopted nodes it is told that Ostler would do {struck or 'nothing'}, not {WOULD}"
    for node in act.nodes:
        yield from _expect_path(account, node)
        if account.of(node) and account.of(node)[0].to != "production":
            yield f"{node} was taken in as {account.of(node)[0].to}"
        for row in account.decisions_of(node, "act"):
            yield f"{node} is only observed, and got {row['action']}"
        for request in account.bmc_writes.get(node, ()):
            yield f"{node} is only observed, and its BMC was told {request}"
        if account.nodes.get(node, {}).get("cordoned"):
            yield f"{node} is only observed, and cordoned"
        if not account.nodes.get(node, {}).get("last_seen"):
            yield f"nothing was heard of {node}"


JUDGES: Mapping[str, Callable[[Act, Account, float], Iterator[str]]] = {
    "crossed": _crossed,
    "pulled": _pulled,
    "reboot": _reboot,
    "recorded": _recorded,
    "pending": _pending,
    "brake": _brake,
    "silence": _silence,
    "triage": _triage,
    "service": _service,
    "storm": _storm,
    "rollout": _rollout,
    "repeat": _repeat,
    "leak": _leak,
    "slow": _slow,
    "monitor": _monitor,
    "blip": _blip,
    "adopted": _adopted,
}

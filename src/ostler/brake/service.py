"""Reserves permits in the transaction that decided the action, and holds automation for people.

Called by `remediation` and `acceptance` (which disrupt) and by `brake/api.py` (which shows, pauses and resumes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from ostler.audit import service as audit
from ostler.brake import policy, store
from ostler.brake.model import Held, Request, Rule
from ostler.brake.pause_file import ACTOR as FILE_ACTOR
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict, NotFound, Refused
from ostler.core.ids import PermitId, new_id
from ostler.db.tx import Tx
from ostler.events import service as events
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State

PERMIT_SECONDS = 2 * 3600.0
"""How long a permit counts when its holder never lets go; longer work asks for more."""

_OUT_OF_SERVICE_DELAY = 60.0


class _Sizes(Mapping[str, int]):
    """Group kind → how many serving nodes are in it; each counted when a limit asks, which most often none does."""

    def __init__(self, tx: Tx, groups: Mapping[str, str]) -> None:
        self._tx, self._groups = tx, groups

    def __getitem__(self, kind: str) -> int:
        return store.group_sizes(self._tx, {kind: self._groups[kind]})[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def reserve(
    tx: Tx,
    node: Node,
    action: str,
    *,
    actor: Actor,
    reason: str,
    workload: str | None = None,
    seconds: float = PERMIT_SECONDS,
) -> PermitId:
    """The right to one disruptive action on a node, counted from this transaction on. Raises `Held` with the limit.

    A node that already holds a permit keeps it. Nodes that serve nobody (Day 0, Day 1, triage) count against no limit,
    but a pause and a maintenance lock hold them too.
    """
    tx.lock("brake")
    store.release_expired(tx)
    node = nodes.get(tx, node.id)  # as it is now that the lock is ours
    groups = _groups(tx, node) if node.state is State.PRODUCTION else {}
    present = store.live_of_node(tx, node.id)
    if present is not None:
        if groups.items() <= present["groups"].items():
            return PermitId(present["id"])
        # It was given when the node served nobody and counted for nothing: that work is over, and this counts.
        store.release(tx, present["id"])
    if (why := stopped(tx, node)) is not None:
        raise Held(f"{action} of {node.name} is held: {why}.", delay=_OUT_OF_SERVICE_DELAY)
    rules = store.rules(tx)
    longest = max(rule.window_s for rule in rules)
    verdict = policy.held_by(
        Request(workload or node.id, groups),
        rules,
        store.counting(tx, tx.now - longest),
        _Sizes(tx, groups),
        tx.now,
    )
    if verdict is not None:
        why, wait = verdict
        raise Held(f"{action} of {node.name} is held: {why}.", delay=wait)
    return _grant(tx, node, action, groups, actor, reason, workload, seconds)


def reserve_danger(
    tx: Tx, node: Node, action: str, *, actor: Actor, reason: str, seconds: float = PERMIT_SECONDS
) -> PermitId:
    """The right to avert a danger: it counts against no limit, and no limit holds it. A pause, hands on the node and
    a flash that runs do: raises `Held`. A permit that the node holds for something else stays as it is.
    """
    tx.lock("brake")
    store.release_expired(tx)
    node = nodes.get(tx, node.id)
    if (why := stopped(tx, node) or flashing(tx, node)) is not None:
        raise Held(f"{action} of {node.name} is held: {why}.", delay=_OUT_OF_SERVICE_DELAY)
    return _grant(tx, node, action, {}, actor, reason, None, seconds)


def _grant(
    tx: Tx,
    node: Node,
    action: str,
    groups: dict[str, str],
    actor: Actor,
    reason: str,
    workload: str | None,
    seconds: float,
) -> PermitId:
    permit = PermitId(new_id("permit"))
    store.insert(
        tx,
        {
            "id": permit,
            "node_id": node.id,
            "action": action,
            "groups": groups,
            "actor": actor.name,
            "reason": reason,
            "workload": workload,
            "granted_at": tx.now,
            "expires_at": tx.now + seconds,
        },
    )
    detail = {"action": action, "permit": permit, "groups": groups}
    audit.record(tx, actor=actor, action="permit.granted", subject=node.id, reason=reason, detail=detail)
    return permit


def keep(tx: Tx, permit: PermitId, *, seconds: float = PERMIT_SECONDS) -> None:
    """A holder that is still at its work keeps its permit; one that ran out meanwhile counts anew.

    Raises `Held` when it ran out and a limit, a pause or a lock stands in the way now, `Refused` for no permit of ours.
    """
    tx.lock("brake")
    store.release_expired(tx)
    row = store.get(tx, permit)
    if row is None:
        raise Refused(f"{permit} is no permit.")
    if row["released_at"] is None:
        store.extend(tx, permit, tx.now + seconds)
        return
    node = nodes.get(tx, row["node_id"])
    if (why := stopped(tx, node)) is not None:
        raise Held(f"{row['action']} of {node.name} is held: {why}.", delay=_OUT_OF_SERVICE_DELAY)
    rules, groups = store.rules(tx), row["groups"]
    counting = store.counting(tx, tx.now - max(rule.window_s for rule in rules))
    request = Request(row["workload"] or node.id, groups)
    verdict = policy.held_by(request, rules, counting, _Sizes(tx, groups), tx.now)
    if verdict is not None:
        why, wait = verdict
        raise Held(f"{row['action']} of {node.name} is held: {why}.", delay=wait)
    store.extend(tx, permit, tx.now + seconds)


def release(tx: Tx, permit: PermitId) -> None:
    """The action is over, whatever came of it; safe to repeat."""
    store.release(tx, permit)


def stopped(tx: Tx, node: Node) -> str | None:
    """Why nothing disruptive may be done to a node right now (a pause, a hands-on lock), or None."""
    scopes = ["fleet", f"node:{node.id}", *(f"{kind}:{name}" for kind, name in _groups(tx, node).items())]
    if in_force := store.pauses(tx, scopes):
        first = in_force[0]
        return f"{first['scope']} is paused by {first['actor']} ({first['reason']})"
    if node.maintenance_by is not None:
        return f"{node.maintenance_by} has hands on the node"
    return None


def flashing(tx: Tx, node: Node) -> str | None:
    """Why nothing may power or reset a node while its firmware is written, or None when it is not."""
    if node.state is State.ZAP or store.flashing(tx, node.id):
        return "its firmware is being written; losing power now would break it"
    return None


def set_rules(tx: Tx, rules: Sequence[Rule], *, actor: Actor, reason: str) -> None:
    """Set the limits. A fleet limit is always there; none may allow everything by leaving all its limits out."""
    if "fleet" not in {rule.group for rule in rules}:
        raise BadInput("A limit for the group 'fleet' is missing.", where="rules")
    groups = [rule.group for rule in rules]
    if twice := [group for group in groups if groups.count(group) > 1]:
        raise BadInput(f"The group '{twice[0]}' has two limits; put them into one.", where="rules")
    for rule in rules:
        if rule.share is None and rule.at_once is None and rule.per_window is None:
            raise BadInput(f"The group '{rule.group}' has no limit at all.", where="rules")
    store.put_rules(tx, rules)
    detail = {"rules": [asdict(rule) for rule in rules]}
    audit.record(tx, actor=actor, action="brake.set", subject="brake", reason=reason, detail=detail)


def pause(tx: Tx, scope: str, *, actor: Actor, reason: str, until: float | None = None) -> str:
    """Hold all automation of a scope: `fleet`, `rack:NAME`, `node:NAME`. Audited and published."""
    scope = _scope(tx, scope)
    kind, _, name = scope.partition(":")
    if kind not in ("fleet", "node") and not store.group_exists(tx, kind, name):
        raise NotFound(f"No node or slot belongs to {kind} '{name[:60]}', so nothing would be paused.", where="scope")
    if until is not None and until <= tx.now:
        raise BadInput("The end of the pause lies in the past.", where="until")
    pause_id = new_id("pause")
    store.insert_pause(
        tx,
        {"id": pause_id, "scope": scope, "actor": actor.name, "reason": reason, "since": tx.now, "until": until},
    )
    audit.record(tx, actor=actor, action="automation.paused", subject=scope, reason=reason)
    events.publish(tx, "automation.paused", scope, {"scope": scope, "actor": actor.name, "reason": reason})
    return pause_id


def resume(tx: Tx, scope: str, *, actor: Actor, reason: str) -> None:
    """Lift the pauses of a scope. Nothing that was held is replayed: each case is judged anew."""
    scope = _scope(tx, scope)
    for row in store.pauses(tx, [scope]):
        if row["actor"] == FILE_ACTOR.name:
            raise Refused(
                f"{scope} is paused by the pause file ({row['reason']}); remove the file, it speaks for itself."
            )
    if not store.lift(tx, scope, actor.name):
        raise Conflict(f"{scope} is not paused.")
    audit.record(tx, actor=actor, action="automation.resumed", subject=scope, reason=reason)
    events.publish(tx, "automation.resumed", scope, {"scope": scope, "actor": actor.name, "reason": reason})


def _scope(tx: Tx, scope: str) -> str:
    if scope == "fleet":
        return scope
    kind, _, name = scope.partition(":")
    if kind == "node" and name:
        return f"node:{nodes.get(tx, name).id}"
    if kind and name:
        return scope
    raise BadInput(f"'{scope[:60]}' is neither fleet nor KIND:NAME, e.g. rack:fra1/a/r3.", where="scope")


def _groups(tx: Tx, node: Node) -> dict[str, str]:
    """What a node counts against: the fleet, its SKU, and the domains of its slot."""
    groups = {"fleet": "fleet"}
    if node.sku is not None:
        groups["sku"] = node.sku
    slot = None if node.slot is None else nodes.get_slot(tx, node.slot)
    if slot is not None:
        groups |= slot.domains
    return groups

"""What a look at the fabric says of nodes, as findings: said while it stands, ended by a look that could see it.

Called by `books.py` in the look's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from ostler.db.tx import Tx
from ostler.fabric import store
from ostler.fabric.look import Look
from ostler.fabric.model import Verdict
from ostler.fabric.node_faults import node_faults
from ostler.faults.model import Fault
from ostler.health import levels
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.nodes.model import State

Consider: TypeAlias = Callable[[Tx, str, Sequence[Diagnosis]], object]
"""What remediation makes of a node's findings."""


def say(
    tx: Tx,
    look: Look,
    before: Sequence[sa.RowMapping],
    unseen: Sequence[sa.RowMapping],
    health: HealthSettings,
    consider: Consider,
) -> None:
    """Say to health what stands at nodes' ports; of a node that was not wholly seen nothing is said to be over.

    `before`: the causes that stood; `unseen`: those of them that this look could not judge.
    """
    found = node_faults(look.diagnosis.causes, look.diagnosis.health)
    source = f"fabric-{look.fabric}"
    doubtful = {chassis for row in unseen for chassis, _ in row["ports"]}
    concerned = {chassis for row in before for chassis, _ in row["ports"]} | set(found)
    hosts = look.hosts.by_chassis
    chassis_of = {host.id: chassis for chassis, host in hosts.items()}
    # Also nodes whose cause ended while they could not be spoken of: out of production, half seen, in another place.
    for node_id in store.nodes_told_of(tx, source):
        if (chassis := chassis_of.get(node_id)) is not None:
            concerned.add(chassis)
        elif nodes.get(tx, node_id).state is State.PRODUCTION:
            _tell(tx, node_id, levels.converge(tx, node_id, source, (), health), consider)
    for chassis in sorted(concerned & set(hosts)):
        host = hosts[chassis]
        if host.state is not State.PRODUCTION:
            continue  # Day 1 has its own look at the cables (acceptance/cabling.py), and repairs end in it
        faults: Sequence[Fault] = found.get(chassis, ())
        if chassis not in doubtful and _covered(chassis, look):
            _tell(tx, host.id, levels.converge(tx, host.id, source, faults, health), consider)
        else:
            _tell(tx, host.id, levels.say(tx, host.id, source, faults, (), health), consider)


def _tell(tx: Tx, node_id: str, diagnoses: Sequence[Diagnosis], consider: Consider) -> None:
    if diagnoses:
        consider(tx, node_id, diagnoses)


def _covered(chassis: str, look: Look) -> bool:
    """Whether every designed cable of a chassis is known."""
    cables: Mapping[str, Any] = {} if look.blueprint is None else look.blueprint.by_chassis
    verdicts = look.diagnosis.verdicts
    return all(verdicts.get(cable, Verdict.OK) is not Verdict.UNKNOWN for cable in cables.get(chassis, ()))

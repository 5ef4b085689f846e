"""Work for technicians in the fleet of `console_fleet.py`, for looking at it: exchanged plugs, a cable that came back,
a switch that is down, a leaf's port under a running job, and a node's ordinary ticket.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostler.core.actor import Actor
from ostler.db import schema
from ostler.db.tx import Tx
from ostler.nodes import store as nodes
from ostler.tickets import service
from ostler.tickets.model import Harms, Plug, Safety, Step, Subject, Work
from tests.e2e.console_stories import HOSTILE

JO = Actor("person:jo")
DAY = 86_400.0
LEAF, SPINE = "R10 U40", "R20 U12"


def work(tx: Tx, ids: Sequence[str]) -> dict[str, str]:
    """Returns ids by word: `swap`, `flapping`, `before`, `busy`, `down`, `verifying`, `fan`, `hostile`."""
    found = {"swap": service.report(tx, swap(ids)), "before": service.report(tx, flapping(ids))}
    service.claim(tx, found["before"], actor=JO)
    service.done(tx, found["before"], actor=JO, evidence="Replaced the cable, MT2231VS09913 → MT2240VS01177.")
    service.confirm(tx, "ib/flap", "Snapshot of 09:40: both ends stayed up.", seen_at=tx.now + 1)
    tx.execute(
        schema.ticket.update()
        .where(schema.ticket.c.id == found["before"])
        .values(closed_at=tx.now - 6 * DAY, opened_at=tx.now - 6 * DAY - 9000)
    )
    found["flapping"] = service.report(tx, flapping(ids))
    found["busy"] = service.report(tx, busy(ids))
    found["down"] = service.report(tx, down())
    found["verifying"] = service.report(tx, absent(ids))
    service.claim(tx, found["verifying"], actor=JO)
    service.done(tx, found["verifying"], actor=JO, evidence="Reseated both ends, the lamp is on.")
    node = nodes.get(tx, ids[2])
    said = "fan 3 stands still. Change the fan FAN3 while the node serves; it need not be drained."
    found["fan"] = service.open_ticket(tx, node=node, cause="bmc-fan FAN3", instruction=said, evidence={"rpm": 0})
    found["hostile"] = service.report(tx, hostile())
    service.comment(tx, found["swap"], actor=JO, text="The door of R01 sticks; the key is at the desk.")
    return found


def swap(ids: Sequence[str]) -> Work:
    host, place = "gpu-0001", "R01 U02"
    return Work(
        key="ib/swap",
        subject=Subject.CABLE,
        cause="Two plugs of gpu-0001 are exchanged: mlx5_0 and mlx5_1.",
        instruction="At gpu-0001 exchange the plugs in mlx5_0 and mlx5_1. Two moves, one visit.",
        place="dc1/A/r01/u02",
        node_ids=(ids[1],),
        steps=(
            Step(
                "Pull the plug and put it into the other port.",
                at=Plug(host, "mlx5_0", place),
                to=Plug(host, "mlx5_1", place),
                stays=Plug("leaf02", "35", LEAF, "18/1"),
                cable_serial="MT2231VS04417",
            ),
            Step(
                "Put the other one where the first was.",
                at=Plug(host, "mlx5_1", place),
                to=Plug(host, "mlx5_0", place),
                stays=Plug("leaf01", "35", LEAF, "18/1"),
                cable_serial="MT2231VS04418",
            ),
        ),
        harms=Harms((host,), ""),
        safe=Safety(True, "gpu-0001 is in triage; nothing runs on it. Both ports are down."),
        fabric="ib",
        ports=((host, "mlx5_0"), (host, "mlx5_1"), ("leaf01", "35"), ("leaf02", "35")),
        evidence={"snapshot": "snap_01m7", "coverage": "100 %"},
        escalates=False,
    )


def flapping(ids: Sequence[str]) -> Work:
    return Work(
        key="ib/flap",
        subject=Subject.CABLE,
        cause="The link of gpu-0004 mlx5_3 to leaf04 went down 7 times in 12 hours.",
        instruction="Replace the cable between gpu-0004 mlx5_3 and leaf04 18/2.",
        place="dc1/A/r01/u05",
        node_ids=(ids[4],),
        steps=(
            Step("Unplug this end.", at=Plug("gpu-0004", "mlx5_3", "R01 U05"), cable_serial="MT2231VS09913"),
            Step("Unplug the other end, and run a new cable.", at=Plug("leaf04", "36", LEAF, "18/2")),
        ),
        harms=Harms(("gpu-0004",), ""),
        safe=Safety(None, "The node does not say what runs on it."),
        fabric="ib",
        ports=(("gpu-0004", "mlx5_3"), ("leaf04", "36")),
        evidence={"downs": 7, "window_h": 12},
    )


def busy(ids: Sequence[str]) -> Work:
    return Work(
        key="ib/degraded",
        subject=Subject.CABLE,
        cause="The trunk from leaf01 to spine01 runs with 2 of 4 lanes.",
        instruction="Reseat the module in leaf01 2/1, then the one in spine01 1/1.",
        place="dc1/A/r10/u40",
        steps=(
            Step("Reseat the module.", at=Plug("leaf01", "3", LEAF, "2/1"), cable_serial="MT2229VS00031"),
            Step("Reseat the module.", at=Plug("spine01", "1", SPINE, "1/1"), cable_serial="MT2229VS00031"),
        ),
        harms=Harms(tuple(f"gpu-{number:04d}" for number in range(8, 16)), "llama-70b, 64 GPUs"),
        safe=Safety(False, "llama-70b runs over it until 14:30 and would lose a quarter of its bandwidth to spine01."),
        fabric="ib",
        ports=(("leaf01", "3"), ("spine01", "1")),
    )


def down() -> Work:
    return Work(
        key="ib/down",
        subject=Subject.SWITCH,
        cause="leaf07 does not answer, seen from two places.",
        instruction="Look at the power supplies of leaf07.",
        place="dc1/A/r10/u33",
        steps=(Step("Look whether its lamps are lit.", at=Plug("leaf07", "", "R10 U33")),),
        safe=Safety(True, "Nothing passes it."),
        fabric="ib",
        ports=(("leaf07", "1"), ("leaf07", "2")),
        escalates=False,
    )


def absent(ids: Sequence[str]) -> Work:
    return Work(
        key="ib/absent",
        subject=Subject.CABLE,
        cause="Nothing connects gpu-0009 mlx5_7 and leaf08 18/1.",
        instruction="Plug the cable in at both ends.",
        place="dc1/A/r02/u02",
        node_ids=(ids[9],),
        steps=(Step("Plug it in.", at=Plug("gpu-0009", "mlx5_7", "R02 U02"), cable_serial="MT2231VS07700"),),
        safe=Safety(True, "Both ports are down."),
        fabric="ib",
        ports=(("gpu-0009", "mlx5_7"), ("leaf08", "35")),
    )


def hostile() -> Work:
    """A fabric whose descriptions attack the page, and words without a space in them."""
    long = "MT4129-ConnectX7-Mellanox-Technologies-" * 6
    return Work(
        key="ib/hostile",
        subject=Subject.CABLE,
        cause=f"{HOSTILE} {long}",
        instruction=HOSTILE * 3,
        steps=(Step(HOSTILE, at=Plug(long, long, HOSTILE, long), stays=Plug(HOSTILE, HOSTILE), cable_serial=long),),
        harms=Harms((HOSTILE, long), HOSTILE),
        safe=Safety(None, HOSTILE),
        fabric="ib",
        ports=((long, long),),
        evidence={HOSTILE: HOSTILE},
    )

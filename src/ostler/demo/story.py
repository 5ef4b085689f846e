"""The demo's hour as data: its acts, their strikes, and what must become of every node. Read by stage and verdict.

Times are domain seconds after the whole fleet is in production. The acts overlap on purpose: on so small a fleet the
brake lets one node be disrupted at a time, so they queue as they would in a real night.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ostler.core.errors import BadInput
from ostler.demo.lines import Lines
from ostler.twin.spec import GPU_ADDRESSES, PER_RACK, NodeSpec

BESIDE = 6
"""Nodes of the story beside those of the first two racks."""
LEAST = 2 * PER_RACK + BESIDE
"""Nodes that the story needs."""
ADOPTED = 6
"""Nodes of the fleet that runs already and is only observed."""
FABRIC_ADDRESS = "0000:19:00.0"
PORT = "mlx5_0/1"
CANARY = "575.57.08"
"""The driver that is rolled out to one rack."""
ROLLED_OUT = 6
"""Nodes of that rack which complain about it."""
FAILING = GPU_ADDRESSES[5]
"""The GPU that no repair cures."""
SLOW = GPU_ADDRESSES[6]
"""The GPU that its peers leave behind."""
WORK_ENDS = 1100.0
"""When the workload of the busy node ends."""
SILENCE_S = 1500.0
FABRIC = "compute"
"""What the fabric is called in the books."""
CROSSED = ("mlx5_0", "mlx5_1")
"""The HCAs whose plugs are exchanged when the node is delivered."""
PULLED = "mlx5_3"
"""The HCA whose cable comes out in production."""


@dataclass(frozen=True)
class Act:
    """One strand of the story: which nodes, what happens, where they must end. `key` names its check in the verdict."""

    key: str
    title: str
    nodes: tuple[str, ...]
    expected: str = "production"
    strikes: tuple[dict[str, Any], ...] = field(default=())


@dataclass(frozen=True)
class Story:
    """All acts. Nodes that no act names must stay in production."""

    acts: tuple[Act, ...]
    source: str
    """Where the lines come from."""

    def expected(self, names: Sequence[str]) -> dict[str, str]:
        """Node → the state it must end in."""
        states = dict.fromkeys(names, "production")
        for act in self.acts:
            states |= {name: act.expected for name in act.nodes if act.expected != "production"}
        return states

    @property
    def watched(self) -> list[str]:
        """Nodes whose raw signals the verdict looks at."""
        return [name for act in self.acts if act.key in ("recorded", "blip") for name in act.nodes]

    def of(self, key: str) -> Act:
        return next(act for act in self.acts if act.key == key)

    def script(self) -> str:
        """The strikes as JSON Lines for `ostler twin --script`."""
        rows = [strike for act in self.acts for strike in act.strikes]
        return "".join(json.dumps(row) + "\n" for row in [{"start": "production"}, *rows])


def write(specs: Sequence[NodeSpec], adopted: Sequence[NodeSpec], lines: Lines) -> Story:
    """The story for this fleet. Raises `BadInput` for one that is too small."""
    if len(specs) < LEAST:
        raise BadInput(
            f"the story needs at least {LEAST} nodes: two racks of {PER_RACK} and {BESIDE} of another", where="--nodes"
        )
    names = [spec.name for spec in specs]
    leaf = tuple(names[PER_RACK : 2 * PER_RACK])
    *beside, crossed, pulled = names[2 * PER_RACK : LEAST]
    acts = (
        *_cables(crossed, pulled),
        *_repairs(names[:PER_RACK], lines),
        *_many(leaf),
        *_beside(beside, lines),
        _adopted(adopted, lines),
    )
    return Story(acts, lines.source)


def _say(at: float, node: str, *said: str, **more: Any) -> dict[str, Any]:
    return {"at": at, "node": node, "kernel": list(said), **more}


def _stand(at: float, node: str, fault: str = "", device: str = "", message: str = "") -> dict[str, Any]:
    """A monitor finds this from now on; without a fault: nothing any more."""
    return {"at": at, "node": node, "standing": [{"fault": fault, "device": device, "message": message}] * bool(fault)}


def _cables(crossed: str, pulled: str) -> tuple[Act, ...]:
    """What hands do and undo at the cabling (`technician.py`, `lookout.py`); nothing of it is scripted."""
    return (
        Act(
            "crossed",
            "delivered with two plugs exchanged: Seatrial finds it, a technician does what the ticket says, it passes",
            (crossed,),
        ),
        Act(
            "pulled",
            "a cable comes out in production: a look at the whole fabric makes one ticket of it; mended, seen, closed",
            (pulled,),
        ),
    )


def _repairs(names: Sequence[str], lines: Lines) -> tuple[Act, ...]:
    """One fault on one node each, in the first rack."""
    silent, fallen, careless, busy, first, second, broken, alone = names
    gpus = GPU_ADDRESSES
    off = lines.about("fallen", gpus[0])
    return (
        Act(
            "reboot",
            "a GPU falls off the bus: rebooted at once, verified, back",
            (fallen,),
            strikes=(_say(60, fallen, off),),
        ),
        Act(
            "recorded",
            "isolated application errors (XID 13 and 31): recorded, nothing done",
            (careless,),
            strikes=(
                {"at": 0, "node": careless, "workload": True, "note": "a job with a bug"},
                _say(30, careless, lines.about("app-13", gpus[1])),
                _say(400, careless, lines.about("app-31", gpus[1])),
            ),
        ),
        Act(
            "pending",
            "XID 94 and 154 'drain and reset' on a busy node: waits for the workload, then resets the GPU",
            (busy,),
            strikes=(
                {"at": 0, "node": busy, "workload": True, "note": "a training job starts"},
                _say(200, busy, lines.about("contained", gpus[2]), lines.about("drain-reset", gpus[2])),
                {"at": WORK_ENDS, "node": busy, "workload": False, "note": "the job ends"},
            ),
        ),
        Act(
            "brake",
            "two GPUs fall off the bus at the same moment: the brake holds one node back, then serves it",
            (first, second),
            strikes=(_say(2100, first, off), _say(2100, second, off)),
        ),
        Act(
            "silence",
            "a node falls silent for a while: a finding, no power is moved, it comes back",
            (silent,),
            strikes=({"at": 100, "node": silent, "silence": SILENCE_S},),
        ),
        Act(
            "triage",
            "an adapter's fault comes back after the reboot: out of production, with a ticket",
            (broken,),
            expected="triage",
            strikes=(_say(3300, broken, lines.about("nic-dead", FABRIC_ADDRESS), every_boot=20),),
        ),
        Act(
            "service",
            "a solo XID 45: the fabric manager is restarted, the node verified",
            (alone,),
            strikes=(_say(3500, alone, lines.about("solo-45", gpus[3])),),
        ),
    )


def _many(leaf: Sequence[str]) -> tuple[Act, ...]:
    """What many nodes report and none is to blame for: the second rack."""
    rolled_out = tuple(leaf[:ROLLED_OUT])
    down = f"{PORT} is down"
    narrow = "the PCIe link trained at generation 4 of 5"
    return (
        Act(
            "storm",
            "a leaf switch dies and every node behind it loses its port: one incident, nobody is rebooted, it clears",
            tuple(leaf),
            strikes=(
                *(_stand(100 + number, name, "ib-port-down", PORT, down) for number, name in enumerate(leaf)),
                *(_stand(1500 + number, name) for number, name in enumerate(leaf)),
            ),
        ),
        Act(
            "rollout",
            "after a driver rollout most of a rack reports slow PCIe links: one finding for people, nobody is rebooted",
            rolled_out,
            strikes=(
                *({"at": 1700, "node": name, "driver": CANARY} for name in leaf),
                *(_stand(2200, name, "gpu-pcie-gen", GPU_ADDRESSES[4], narrow) for name in rolled_out),
            ),
        ),
    )


def _beside(names: Sequence[str], lines: Lines) -> tuple[Act, ...]:
    """The nodes of the third rack."""
    failing, leaking, slow, unwatched = names
    slower = {"sm_clock_mhz": 1230.0, "power_w": 410.0}
    return (
        Act(
            "repeat",
            "a GPU's fault comes back after each repair: reset, reboot, power cycle, then back to its maker (RMA)",
            (failing,),
            expected="triage",
            strikes=(_say(150, failing, lines.about("double-bit", FAILING), every_repair=900),),
        ),
        Act(
            "leak",
            "a leak, read twice: power off at once, locked, a ticket, a page; no limit of the brake holds it",
            (leaking,),
            expected="triage",
            strikes=({"at": 2400, "node": leaking, "leak": {"id": "LeakDetector_1_Manifold", "state": "Warning"}},),
        ),
        Act(
            "slow",
            "one GPU is slower than its seven siblings and all others: a finding, and nothing is done by it",
            (slow,),
            strikes=(
                {"at": 0, "node": slow, "workload": True, "note": "a training job starts"},
                {"at": 300, "node": slow, "readings": {SLOW: slower}, "note": "one GPU throttles and says nothing"},
            ),
        ),
        Act(
            "monitor",
            "a monitor dies: that it watches no more is a finding, and over when it works again",
            (unwatched,),
            strikes=(
                {"at": 150, "node": unwatched, "monitor_dead": "infiniband"},
                {"at": 1500, "node": unwatched, "monitor_dead": ""},
            ),
        ),
        Act(
            "blip",
            "a PCIe link loses lanes and finds them again within the settle window: a false alarm, nothing is done",
            (unwatched,),
            strikes=(
                _stand(2000, unwatched, "gpu-pcie-width", GPU_ADDRESSES[7], "8 of 16 lanes"),
                _stand(2150, unwatched),
            ),
        ),
    )


def _adopted(specs: Sequence[NodeSpec], lines: Lines) -> Act:
    """The fleet that is only observed: two of its nodes get faults."""
    names = tuple(spec.name for spec in specs)
    ecc = "2 uncorrected memory errors since the last reset"
    return Act(
        "adopted",
        "a running fleet, adopted and only observed: two faults, both told as what would be done, nothing touched",
        names,
        strikes=(
            *({"at": 0, "node": name, "workload": True} for name in names),
            _say(600, names[1], lines.about("fallen", GPU_ADDRESSES[0])),
            _stand(800, names[4], "gpu-ecc-uncorrected", GPU_ADDRESSES[3], ecc),
        ),
    )

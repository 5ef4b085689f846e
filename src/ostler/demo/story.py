"""The demo's hour as data: eight acts, their strikes, and what must become of every node. Read by stage and verdict.

Times are domain seconds after the whole fleet is in production. The acts overlap on purpose: on a fleet of 16 the brake
lets one node be disrupted at a time, so they queue as they would in a real night.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ostler.core.errors import BadInput
from ostler.demo.lines import Lines
from ostler.twin.spec import GPU_ADDRESSES, PER_RACK, NodeSpec

CUT = 3
"""Nodes of another rack that lose their link together: fewer are no incident ([health] storm_nodes)."""
LEAST = PER_RACK + CUT
"""Nodes that the story needs."""
FABRIC_ADDRESS = "0000:19:00.0"
WORK_ENDS = 1100.0
"""When the workload of the busy node ends."""
SILENCE_S = 1500.0


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
        return [name for act in self.acts if act.key == "recorded" for name in act.nodes]

    def script(self) -> str:
        """The strikes as JSON Lines for `ostler twin --script`."""
        rows = [strike for act in self.acts for strike in act.strikes]
        return "".join(json.dumps(row) + "\n" for row in [{"start": "production"}, *rows])


def write(specs: Sequence[NodeSpec], lines: Lines) -> Story:
    """The story for this fleet. Raises `BadInput` for one that is too small."""
    if len(specs) < LEAST:
        raise BadInput(
            f"the story needs at least {LEAST} nodes: a rack of {PER_RACK} and {CUT} of another", where="--nodes"
        )
    names = [spec.name for spec in specs]
    silent, fallen, careless, busy, first, second, broken, alone = names[:PER_RACK]
    racks: dict[str, list[str]] = {}
    for spec in specs:
        racks.setdefault(spec.rack, []).append(spec.name)
    rack, cut = [(name, members) for name, members in racks.items() if len(members) >= CUT][-1]
    gpus = GPU_ADDRESSES

    def say(at: float, node: str, *said: str, **more: Any) -> dict[str, Any]:
        return {"at": at, "node": node, "kernel": list(said), **more}

    off = lines.about("fallen", gpus[0])
    acts = (
        Act(
            "reboot",
            "a GPU falls off the bus: rebooted at once, verified, back",
            (fallen,),
            strikes=(say(60, fallen, off),),
        ),
        Act(
            "recorded",
            "isolated application errors (XID 13 and 31): recorded, nothing done",
            (careless,),
            strikes=(
                say(30, careless, lines.about("app-13", gpus[1])),
                say(400, careless, lines.about("app-31", gpus[1])),
            ),
        ),
        Act(
            "pending",
            "XID 94 and 154 'drain and reset' on a busy node: waits for the workload, then resets the GPU",
            (busy,),
            strikes=(
                {"at": 0, "node": busy, "workload": True, "note": "a training job starts"},
                say(200, busy, lines.about("contained", gpus[2]), lines.about("drain-reset", gpus[2])),
                {"at": WORK_ENDS, "node": busy, "workload": False, "note": "the job ends"},
            ),
        ),
        Act(
            "brake",
            "two GPUs fall off the bus at the same moment: the brake holds one node back, then serves it",
            (first, second),
            strikes=(say(2100, first, off), say(2100, second, off)),
        ),
        Act(
            "silence",
            "a node falls silent for a while: a finding, no power is moved, it comes back",
            (silent,),
            strikes=({"at": 100, "node": silent, "silence": SILENCE_S},),
        ),
        Act(
            "incident",
            "every node of a rack loses its link: one incident, no node blamed, it clears",
            tuple(cut),
            strikes=(
                say(100, f"rack:{rack}", lines.about("link-down", FABRIC_ADDRESS)),
                say(900, f"rack:{rack}", lines.about("link-up", FABRIC_ADDRESS)),
            ),
        ),
        Act(
            "triage",
            "an adapter's fault comes back after the reboot: out of production, with a ticket",
            (broken,),
            expected="triage",
            strikes=(say(3300, broken, lines.about("nic-dead", FABRIC_ADDRESS), every_boot=20),),
        ),
        Act(
            "service",
            "a solo XID 45: the fabric manager is restarted, the node verified",
            (alone,),
            strikes=(say(3500, alone, lines.about("solo-45", gpus[3])),),
        ),
    )
    return Story(acts, lines.source)

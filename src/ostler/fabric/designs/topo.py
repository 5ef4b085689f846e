"""The topology file of ibdiagnet and ibutils (`.topo`), also what UFM keeps as its master topology.

Blocks divided by blank lines: a line with the system's type and name, then its ports and what they are cabled to, as
far as each is described: `P17 -4x-53G-> HCA_1 gpu-0001 U1/P1`. Both ends list a cable. Form: ibdm-topo-file(1).
Called by `designs.read`.
"""

from __future__ import annotations

from ostler.core.errors import BadInput
from ostler.fabric.designs.draft import Draft, Row
from ostler.fabric.designs.port_names import is_switch
from ostler.fabric.designs.table import text_of
from ostler.fabric.model import Blueprint, ChassisKind, Lint

_GIGABITS = {
    "2.5": "SDR", "5": "DDR", "10": "QDR", "10.3": "FDR10", "14": "FDR", "14.1": "FDR", "25": "EDR", "25.8": "EDR",
    "50": "HDR", "53": "HDR", "53.1": "HDR", "100": "NDR", "106": "NDR", "106.3": "NDR", "200": "XDR", "212": "XDR",
}  # fmt: skip
"""Lane rates as these files write them."""


def read(data: bytes, name: str, *, switch_model: str = "") -> tuple[Blueprint, list[Lint]]:
    """One Draft row a line with an arrow; BadInput where a port stands outside of a block."""
    draft = Draft(name, "topo", both_ways=True, switch_model=switch_model)
    system = ""
    for number, line in enumerate(text_of(data, name).splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        at = next((index for index, word in enumerate(words) if word.endswith("->")), -1)
        if at < 0:
            system = _system(draft, words, number, name)
            continue
        if not system:
            raise BadInput(
                "a port stands here before any system; a block begins with TYPE NAME", where=f"{name}:{number}"
            )
        near, far = words[:at], words[at + 1 :]
        if len(near) != 1 or len(far) < 2:
            draft.book.add("half-cable", f"{' '.join(words)[:80]!r} is not PORT -> TYPE NAME PORT; left out", number)
            continue
        other = _system(draft, far[:2], number, name)
        width, speed = _rate(words[at])
        draft.cable(Row(system, near[0], other, " ".join(far[2:]), number, speed=speed, width=width))
    return draft.finish()


def _system(draft: Draft, words: list[str], line: int, name: str) -> str:
    """Take note of TYPE NAME and what it is; the name."""
    if len(words) < 2 or (len(words) > 2 and not words[2].upper().startswith("CFG:")):
        raise BadInput(
            f"{' '.join(words)[:60]!r} is neither TYPE NAME nor PORT -> TYPE NAME PORT", where=f"{name}:{line}"
        )
    model, system = words[0], words[1]
    kind = ChassisKind.SWITCH if is_switch(model) else None
    if model.upper().startswith(("HCA", "MT", "CX")) and not is_switch(model) and not model.upper().startswith("MTS"):
        kind = ChassisKind.HOST
    draft.chassis(system, kind=kind, model="" if kind is ChassisKind.HOST else model, line=line)
    return system


def _rate(arrow: str) -> tuple[str, str]:
    """`-4x-53G->` → (4, HDR); empty where the arrow does not say."""
    parts = arrow.strip("->").split("-")
    width = next((part[:-1] for part in parts if part.lower().endswith("x") and part[:-1].isdecimal()), "")
    rate = next((part for part in parts if part and not part.lower().endswith("x")), "")
    return width, _GIGABITS.get(rate.upper().removesuffix("G"), rate)

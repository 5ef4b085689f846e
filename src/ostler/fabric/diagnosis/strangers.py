"""What is there and in no design: single cables between designed boxes, and boxes that nobody designed.

A box is told once, however many cables it has; links among such boxes alone are outside the design and nobody's
business here, nor are the aggregation nodes inside switches. `causes.py` calls it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from ostler.fabric.diagnosis.compare import Comparison
from ostler.fabric.diagnosis.keys import key
from ostler.fabric.model import Cause, CauseKind, ChassisKind, Port
from ostler.fabric.report import Names

BOXES_TOLD = 20
"""More unknown boxes than this are one line: the design covers a part of the fabric only."""


def strangers(found: Comparison, loose: Sequence[tuple[Port, Port]], names: Names) -> list[Cause]:
    """`loose`: links that share no port with a wrong or absent cable."""
    designed = found.blueprint.chassis
    causes: list[Cause] = []
    boxes: dict[str, list[tuple[Port, Port]]] = defaultdict(list)
    for a, b in loose:
        known = [port.chassis in designed for port in (a, b)]
        if all(known):
            causes.append(_cable(a, b, names))
        elif any(known):
            mine, theirs = (a, b) if known[0] else (b, a)
            if found.evidence.kind(theirs.chassis) is not ChassisKind.OTHER:
                boxes[theirs.chassis].append((mine, theirs))
    hidden: dict[str, list[tuple[str, Port, Port]]] = defaultdict(list)
    for cable, end, there in found.veiled:
        missed = cable.b if cable.a == end else cable.a
        hidden[there.chassis].append((missed.chassis, end, there))
        boxes.pop(there.chassis, None)
    causes += [_named(name, rows) for name, rows in sorted(hidden.items())]
    if len(boxes) > BOXES_TOLD:
        causes.append(_many(boxes))
    else:
        causes += [_box(name, rows) for name, rows in sorted(boxes.items())]
    return causes


def _cable(a: Port, b: Port, names: Names) -> Cause:
    return Cause(
        CauseKind.UNDESIGNED,
        key(CauseKind.UNDESIGNED, (a, b)),
        tuple(sorted({a.chassis, b.chassis})),
        (a, b),
        f"Nobody designed the cable between {names.port(a)} and {names.port(b)}.",
        f"Take out the cable between {names.port(a)} and {names.port(b)}, or add it to the design.",
        removes=((a, b),),
    )


def _box(name: str, rows: Sequence[tuple[Port, Port]]) -> Cause:
    at = sorted({mine.chassis for mine, _ in rows})
    return Cause(
        CauseKind.UNDESIGNED,
        key(CauseKind.UNDESIGNED, (name,)),
        (name,),
        tuple(sorted(theirs for _, theirs in rows)),
        f"{name} is not in the design and has {_cables(len(rows))} to {', '.join(at[:3])}"
        f"{' and others' if len(at) > 3 else ''}.",
        f"Add {name} to the design, or take its cables out.",
        ticket=False,
    )


def _named(name: str, rows: Sequence[tuple[str, Port, Port]]) -> Cause:
    """A box where another one is expected that did not answer: most likely the same under another name."""
    missed, count = Counter(chassis for chassis, _, _ in rows).most_common(1)[0]
    ports = tuple(sorted(there for _, _, there in rows))
    if missed == name:
        return Cause(
            CauseKind.UNDESIGNED,
            key(CauseKind.UNDESIGNED, (name,)),
            (name,),
            ports,
            f"{name} has ports that the design calls otherwise ({ports[0].name}{' and more' if count > 1 else ''}).",
            f"Give the ports of {name} the same names in the design and on the host.",
            ticket=False,
        )
    return Cause(
        CauseKind.UNDESIGNED,
        key(CauseKind.UNDESIGNED, (name,)),
        (name,),
        ports,
        f"{name} is not in the design and sits on {_cables(count)} where the design has {missed}, which is silent: "
        f"it may be {missed} under another name.",
        f"Set the name of {missed}, or say in the design or the GUID registry which box {name} is.",
        ticket=False,
    )


def _many(boxes: dict[str, list[tuple[Port, Port]]]) -> Cause:
    names = sorted(boxes)
    return Cause(
        CauseKind.UNDESIGNED,
        key(CauseKind.UNDESIGNED, ("*",)),
        tuple(names[:BOXES_TOLD]),
        tuple(sorted(theirs for rows in boxes.values() for _, theirs in rows)),
        f"{len(names)} boxes on designed switches are not in the design ({', '.join(names[:3])} and others): it covers "
        "a part of this fabric.",
        "Add them to the design if they belong to it.",
        ticket=False,
    )


def _cables(count: int) -> str:
    return "one cable" if count == 1 else f"{count} cables"

"""Causes about parts, not cables: what was replaced, and GUIDs that two nodes bear. `diagnose` calls it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ostler.fabric.diagnosis.keys import key
from ostler.fabric.model import Cause, CauseKind, Port, Snapshot
from ostler.fabric.sweep import Problem, ProblemKind, guid_text


def parts_of(snapshots: Sequence[Snapshot]) -> list[Cause]:
    """Replacements, one cause a box, and duplicate GUIDs, one a GUID."""
    doubles: dict[object, tuple[Problem, set[Port]]] = {}
    replaced: dict[str, dict[Port, tuple[int, int]]] = defaultdict(dict)
    for snapshot in snapshots:
        for problem in snapshot.problems:
            if problem.kind is ProblemKind.DUPLICATE_GUID and problem.hides:  # else the same block came twice
                doubles.setdefault(problem.message if problem.guid is None else problem.guid, (problem, set()))
        for port, guids in snapshot.replaced.items():
            replaced[port.chassis].setdefault(port, guids)
        wanted = {problem.guid for problem, _ in doubles.values()} - {None}
        if wanted:
            for port, end in snapshot.ends.items():
                if end.guid in wanted:
                    doubles[end.guid][1].add(port)
    causes = [_double(problem, tuple(sorted(ports))) for problem, ports in doubles.values()]
    return causes + [_replaced(name, ports) for name, ports in sorted(replaced.items())]


def _double(problem: Problem, ports: tuple[Port, ...]) -> Cause:
    name = problem.message if problem.guid is None else guid_text(problem.guid)
    at = f" (one is {ports[0]})" if ports else ""
    return Cause(
        CauseKind.DUPLICATE_GUID,
        key(CauseKind.DUPLICATE_GUID, (name,)),
        tuple(dict.fromkeys(port.chassis for port in ports)),
        ports,
        f"Two nodes bear one GUID: {name}{at}. The cables of neither are judged.",
        "Find both by their switch ports and give one its own GUID back (its label or the flash tool tells it).",
        ticket=False,
    )


def _replaced(name: str, ports: dict[Port, tuple[int, int]]) -> Cause:
    first = min(ports)
    before, after = ports[first]
    more = f" and {len(ports) - 1} more" if len(ports) > 1 else ""
    return Cause(
        CauseKind.PART_REPLACED,
        key(CauseKind.PART_REPLACED, ports),
        (name,),
        tuple(sorted(ports)),
        f"{first} has the GUID {guid_text(after)}, known was {guid_text(before)}{more}: the part was replaced.",
        ticket=False,
    )

"""Links that are severely ill, as causes: they get tickets and are cleared as cables in a wrong place are. Pure.

Called by `service.py` and `ostler fabric check` with what `links/judge.py` found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ostler.fabric.model import Blueprint, Cause, CauseKind, Diagnosis, Port, Trouble, TroubleKind, Verdict

_FOLLOWS = frozenset({TroubleKind.WIDTH, TroubleKind.SPEED, TroubleKind.DROPPED, TroubleKind.DOWNED})
"""What a cable that is out, slow or elsewhere brings with it: its cause says so already, and once is enough."""
_DO = {
    TroubleKind.HOT: "Look at the airflow and the cage, then change the transceiver.",
    TroubleKind.RX_POWER: "Clean and reseat the fibre at both ends, then change the transceiver at the far end.",
}
_RESEAT = "Reseat both ends and clean the fibre; if it comes back, change the cable."


def with_health(diagnosis: Diagnosis, troubles: Sequence[Trouble], blueprint: Blueprint | None) -> Diagnosis:
    """The diagnosis with what ails links; the severe ones are causes, one a link."""
    known = {port for cause in diagnosis.causes if cause.kind is not CauseKind.PART_REPLACED for port in cause.ports}
    own = tuple(one for one in troubles if one.kind not in _FOLLOWS or not (one.port in known or one.peer in known))
    return replace(diagnosis, health=own, causes=(*diagnosis.causes, *link_causes(own, diagnosis, blueprint)))


def link_causes(troubles: Iterable[Trouble], diagnosis: Diagnosis, blueprint: Blueprint | None) -> Iterable[Cause]:
    """One cause for each ill link."""
    by_link: dict[tuple[Port, ...], list[Trouble]] = {}
    for trouble in troubles:
        if not trouble.severe:
            continue
        ports = tuple(sorted(port for port in (trouble.port, trouble.peer) if port is not None))
        by_link.setdefault(ports, []).append(trouble)
    for ports, ills in by_link.items():
        first = ills[0]
        cable = None if blueprint is None else blueprint.by_port.get(first.port)
        known = cable is not None and diagnosis.verdicts.get(cable, Verdict.OK) in (Verdict.OK, Verdict.DEGRADED)
        yield Cause(
            CauseKind.LINK,
            key(ports),
            (first.port.chassis,),
            ports,
            " ".join(dict.fromkeys(one.message for one in ills)),
            _DO.get(first.kind, _RESEAT),
            cables=(cable,) if cable is not None and known else (),
        )


def key(ports: Iterable[Port]) -> str:
    """Of the link, whatever ails it: a cable that flaps today and errs tomorrow is one ticket."""
    text = "\n".join(f"{port.chassis}\0{port.name}" for port in ports)
    return f"link-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

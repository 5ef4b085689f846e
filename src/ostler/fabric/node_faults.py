"""What a fabric's causes mean for the nodes at its ends: faults as the agents' monitors name them. Pure.

Called by `books.py`, which says them through `health/levels.py`. A node's own port has one name whoever looks:
`mlx5_0/1`, as sysfs has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ostler.fabric.model import Cause, CauseKind, Port, Trouble, TroubleKind
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

_OF_CAUSES: Mapping[CauseKind, str] = {
    CauseKind.MISCABLED: "ib-miscabled",
    CauseKind.SHIFTED: "ib-miscabled",
    CauseKind.EXCHANGED: "ib-miscabled",
    CauseKind.RAIL: "ib-miscabled",
    CauseKind.CABLE_ABSENT: "ib-uncabled",
    CauseKind.DEGRADED: "ib-port-rate",
}
_OF_TROUBLES: Mapping[TroubleKind, str] = {
    TroubleKind.FLAPPING: "ib-flapping",
    TroubleKind.DROPPED: "ib-dropped",
    TroubleKind.DOWNED: "ib-link-downed",
    TroubleKind.SYMBOL_ERRORS: "ib-symbol-errors",
    TroubleKind.BER: "ib-bit-errors",
    TroubleKind.RECOVERIES: "ib-recoveries",
    TroubleKind.INTEGRITY: "ib-integrity",
    TroubleKind.RCV_ERRORS: "ib-rcv-errors",
    TroubleKind.HOT: "ib-module-hot",
    TroubleKind.RX_POWER: "ib-rx-power",
    TroubleKind.WIDTH: "ib-port-rate",
    TroubleKind.SPEED: "ib-port-rate",
}


def device(port: Port) -> str:
    """As the agent names it: HCA and port."""
    return port.name if "/" in port.name else f"{port.name}/1"


def node_faults(causes: Iterable[Cause], troubles: Iterable[Trouble]) -> dict[str, list[Fault]]:
    """Chassis → what is wrong with its ports now. Chassis that are no nodes are among them; the caller knows which."""
    found: dict[tuple[str, str, str], Fault] = {}
    for cause in causes:
        name = _OF_CAUSES.get(cause.kind)
        if name is None or not cause.confirmed:
            continue
        for port in cause.ports:
            found.setdefault((port.chassis, name, device(port)), fault(name, device(port), cause.message))
    for trouble in troubles:
        name = _OF_TROUBLES.get(trouble.kind)
        if name is None or not trouble.severe:
            continue
        detail = {key: str(value) for key, value in list(trouble.measured.items())[:16]}
        ends = [trouble.port] if trouble.peer is None else [trouble.port, trouble.peer]
        for end in ends:
            one = fault(name, device(end), trouble.message, detail=detail)
            found.setdefault((end.chassis, name, device(end)), one)
    faults: dict[str, list[Fault]] = {}
    for (chassis, _, _), one in sorted(found.items()):
        faults.setdefault(chassis, []).append(one)
    return faults

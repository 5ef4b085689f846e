"""From what the catalogue says about a line to what travels. Called by the agent for each detected fault."""

from __future__ import annotations

from ostler.faults.model import Fault, Severity
from ostler.wire.agent import MESSAGE_LIMIT, Signal
from ostler.wire.decode import JsonValue, fit

UNNUMBERED = 1
"""A signal gets its sequence from the buffer; until then it carries the least one that is valid."""


def signal_of(fault: Fault, at: float, source: str = "kernel") -> Signal:
    """`fault`, seen at the domain time `at`, as a signal without its sequence."""
    detail: dict[str, JsonValue] = {fit(key, 64): fit(value) for key, value in list(fault.detail.items())[:32]}
    for key, value in (("meaning", fault.meaning), ("workflow", fault.workflow), ("recovery", fault.recovery)):
        if value:
            detail[key] = value
    return Signal(
        seq=UNNUMBERED,
        at=max(0.0, at),
        source=source,
        kind=fault.kind.value,
        code=fit(fault.code, 128),
        device=fit(fault.device, 256),
        component=fit(fault.component, 128),
        severity=fault.severity.value,
        action=fault.action.value,
        message=fit(fault.message, MESSAGE_LIMIT),
        detail=detail,
    )


def is_urgent(signal: Signal) -> bool:
    """A signal that is sent at once instead of being gathered with its neighbours for up to half a second."""
    return signal.severity == Severity.FATAL

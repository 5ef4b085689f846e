"""How sure a diagnosis is, and what it rests on. Pure; called by `diagnosis.py`, read by `nodes why`.

Two independent witnesses are sure; the kernel's own word is; one monitor may be noisy; a first look after a boot, a
monitor that died and a code that nobody knows prove nothing yet (`low` is shown and never acted on).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ostler.faults.xid_table import XIDS
from ostler.health.claims import Claim
from ostler.health.model import Confidence, Diagnosis, HealthSettings, Observed
from ostler.health.rules import NEVER_FOLDED

KEPT = 20
"""Sequences, witnesses and explained faults that a finding lists at most."""

_ORDER = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)


def diagnosis(claim: Claim, settings: HealthSettings, booted_at: float | None) -> Diagnosis:
    """A claim that stands for itself, as a diagnosis."""
    said = [one for one in claim.witnesses if one.signals and not one.fresh]
    renews = bool(claim.signals) or bool(said)
    if claim.standing is not None and not claim.signals:
        message, before = claim.standing.message, claim.standing.evidence
    else:
        message, before = claim.signals[-1].message, {}
    confidence = _confidence(claim)
    evidence: dict[str, Any] = {**before, "rule": claim.rule, "source": claim.source}
    if claim.signals:
        last = claim.signals[-1]
        evidence |= {
            "why": claim.why,
            "signals": [signal.seq for signal in claim.signals][-KEPT:],
            "count": claim.count,
            "last": last.message,
        }
        if last.workflow:
            evidence["workflow"] = last.workflow
        if last.monitor:
            evidence["monitor"] = last.monitor
    elif not said:
        evidence |= {name: before[name] for name in ("rule", "source") if name in before}
    if witnesses := _witnesses(claim):
        evidence["witnesses"] = witnesses
    if explains := list(dict.fromkeys([*_known(claim, "explains"), *claim.explains]))[:KEPT]:
        evidence["explains"] = explains
    if confidence is Confidence.LOW and claim.fresh and claim.signals[-1].monitor and booted_at is not None:
        evidence["low_until"] = booted_at + settings.boot_grace_s
    return Diagnosis(
        claim.fault,
        claim.component,
        claim.device,
        claim.severity,
        confidence,
        claim.action,
        message,
        evidence,
        renews,
    )


def _confidence(claim: Claim) -> Confidence:
    told = {witness_class(one) for part in (claim, *claim.witnesses) for one in part.signals}
    told |= {str(one["by"]) for one in _known(claim, "witnesses") if isinstance(one, dict) and "by" in one}
    if claim.standing is not None and not claim.signals:
        told.add("agent" if "monitor" in claim.standing.evidence else "kernel")
    found = Confidence.HIGH
    if claim.component == "agent" or _unknown(claim):
        found = Confidence.LOW
    elif len(told) > 1 or claim.fault in NEVER_FOLDED:
        found = Confidence.HIGH
    elif claim.fresh:
        found = Confidence.LOW
    elif "kernel" not in told:
        found = Confidence.MEDIUM
    if claim.standing is not None:  # what was sure stays so until evidence clears it
        found = max(found, claim.standing.confidence, key=_ORDER.index)
    return found


def witness_class(signal: Observed) -> str:
    """Who says it, as far as independence goes: the kernel, the node's monitors (and DCGM, which asks NVML too), …"""
    if signal.monitor:
        return "agent" if signal.source in ("monitor", "prometheus") else signal.source
    return signal.source


def _unknown(claim: Claim) -> bool:
    code = claim.fault.removeprefix("xid-")
    return claim.fault.startswith("xid-") and code.isdigit() and int(code) not in XIDS and not claim.by_operator


def _witnesses(claim: Claim) -> list[dict[str, Any]]:
    told = {str(one.get("fault")): one for one in _known(claim, "witnesses") if isinstance(one, dict)}
    for one in claim.witnesses:
        if one.signals:
            last = one.signals[-1]
            told[one.name] = {
                "fault": one.name,
                "by": witness_class(last),
                "signals": [signal.seq for signal in one.signals][-KEPT:],
                "last": last.message[:200],
            }
    return list(told.values())[-KEPT:]


def _known(claim: Claim, key: str) -> Iterable[Any]:
    """What the active finding's evidence lists already."""
    if claim.standing is None:
        return ()
    value = claim.standing.evidence.get(key)
    return value if isinstance(value, list) else ()

"""Root before symptom: which claims about a node are one fault told twice, and which follow from another. Pure.

The second half of `diagnosis.py`; the rules themselves are the tables of `rules.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ostler.faults.model import Action, Severity
from ostler.health.claims import Claim
from ostler.health.model import Confidence, HealthSettings
from ostler.health.rules import (
    BY_PRODUCTS,
    ECC_EVENTS,
    ECHOES,
    GPU_LOST,
    LADDER,
    NVLINK,
    RANK,
    RECOVERY_XID,
    REMAPPED,
    SOLO,
    UNCONTAINED,
    ByProduct,
    Family,
    family_of,
    matches,
    stronger,
    worse,
)

MONITOR_PERIOD_S = 60.0
"""A monitor that looks once a minute tells a by-product up to so much later than the kernel does."""

Explained = dict[str, str]
"""FAULT@DEVICE → the name of what explains it."""


def fold(found: Sequence[Claim], settings: HealthSettings) -> tuple[list[Claim], Explained]:
    """The claims that stand for themselves, and what explains each of the others."""
    explained: Explained = {}
    left = _families(found, explained)
    left = _by_products(left, settings, explained)
    left = _nvlink_chain(left, settings, explained)
    left = _echoes(left, settings, explained)
    return _alone_154(left), explained


def order(claim: Claim) -> tuple[object, ...]:
    """The strongest first; then by name, so that no order of arrival matters."""
    sure = not claim.fresh and (claim.standing is None or claim.standing.confidence is not Confidence.LOW)
    return (
        not sure,
        -LADDER.index(claim.action),
        claim.monitored,
        -RANK[claim.severity],
        claim.fault != GPU_LOST,
        claim.fault,
        claim.device,
    )


# One fault told by several witnesses ---------------------------------------------------------------------------------


def _families(found: Sequence[Claim], explained: Explained) -> list[Claim]:
    groups: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    left: list[Claim] = []
    for claim in found:
        family = family_of(claim.fault)
        if family is None:
            left.append(claim)
        else:
            groups[family.name, "" if family.of_node else claim.part].append(claim)
    _place_the_placeless(groups)
    for members in groups.values():
        family = family_of(members[0].fault)
        left.append(_one_of(members, family, explained) if family is not None else members[0])
    return left


def _place_the_placeless(groups: dict[tuple[str, str], list[Claim]]) -> None:
    """A count that is too low, or a stuck driver, names no GPU: it is about the one that is known to be lost."""
    lost = sorted(
        place for (name, place), members in groups.items() if name == "gpu-lost" and place and _any_fault(members)
    )
    if lost and ("gpu-lost", "") in groups:
        groups["gpu-lost", lost[0]] += groups.pop(("gpu-lost", ""))


def _any_fault(members: Iterable[Claim]) -> bool:
    return any(one.is_fault for one in members)


def _one_of(members: list[Claim], family: Family, explained: Explained) -> Claim:
    drains = _drain_and_reset(members) if family.name == "gpu-memory" else False
    chief, *others = sorted(members, key=order)
    if not others:
        return chief
    faults = [one for one in members if one.is_fault]
    if len(faults) > 1 and not drains:
        for one in faults:
            if not one.by_operator and not one.fresh:
                chief.severity = worse(chief.severity, one.severity)
    if chief.rule == "catalogue":
        chief.rule, chief.source = family.name, family.source
    for one in sorted(others, key=order):
        chief.witnesses.append(one)
        chief.explains[one.name] = None
        explained[one.name] = chief.name
    return chief


def _drain_and_reset(members: Sequence[Claim]) -> bool:
    """48, or a contained 94, beside a remapped row: running work ends first, then the GPU is reset (NVIDIA: 48)."""
    faults = {one.fault for one in members}
    remapped = [one for one in members if matches(one.fault, REMAPPED)]
    event = next((one for name in ECC_EVENTS for one in members if one.fault == name), None)
    if event is None or not remapped or UNCONTAINED in faults or event.by_operator:
        return False
    if event.rule != "xid-154":
        why = f"{event.fault} with {remapped[0].fault}: the row is remapped by a reset, after running work has ended"
        source = "NVIDIA, WORKFLOW_XID_48: with 63 or 64 drain and reset"
        event.ask(stronger(event.action, Action.RESET_GPU), "drain-and-reset", why, source)
    for one in members:
        if one.severity is Severity.FATAL or one is event:
            one.severity = Severity.ERROR
    return True


# What follows from something worse -----------------------------------------------------------------------------------


def _by_products(found: Sequence[Claim], settings: HealthSettings, explained: Explained) -> list[Claim]:
    gone: set[int] = set()
    for claim in sorted(found, key=order):
        for rule in BY_PRODUCTS:
            if not _fits(rule, claim):
                continue
            roots = sorted((one for one in found if id(one) not in gone and _explains(rule, one, claim)), key=order)
            near = [one for one in roots if claim.near(one, _within(rule, claim, settings))]
            if near:
                _explain(near[0], claim, explained)
                gone.add(id(claim))
                break
    return [claim for claim in found if id(claim) not in gone]


def _explains(rule: ByProduct, root: Claim, symptom: Claim) -> bool:
    if root is symptom or not matches(root.fault, rule.roots) or root.fault == symptom.fault == GPU_LOST:
        return False
    if rule.same_part and root.part != symptom.part:
        return False
    if LADDER.index(root.action) < LADDER.index(rule.least):
        return False
    # Of two that could explain each other the stronger does.
    mutual = matches(symptom.fault, rule.roots) and matches(root.fault, rule.symptoms)
    return not mutual or order(root) < order(symptom)


def _fits(rule: ByProduct, symptom: Claim) -> bool:
    return (
        matches(symptom.fault, rule.symptoms)
        and symptom.fault not in (GPU_LOST, RECOVERY_XID)
        and LADDER.index(symptom.action) <= LADDER.index(rule.most)
        and not symptom.by_operator
    )


def _within(rule: ByProduct, symptom: Claim, settings: HealthSettings) -> float:
    if not rule.near_link:
        return settings.window_s
    return settings.by_product_s + (MONITOR_PERIOD_S if symptom.monitored else 0.0)


def _nvlink_chain(found: Sequence[Claim], settings: HealthSettings, explained: Explained) -> list[Claim]:
    """The first link failure of a partition is the root; what follows within 30 s of one is a by-product."""
    links = [one for one in found if matches(one.fault, NVLINK) and one.signals]
    links.sort(key=lambda one: (min(one.times), *order(one)))
    gone: set[int] = set()
    failures: list[tuple[float, Claim]] = []
    for claim in links:
        at = min(claim.times)
        before = next((root for then, root in failures if at - then <= settings.by_product_s), None)
        ripe = LADDER.index(claim.action) <= LADDER.index(Action.REBOOT) and not claim.by_operator
        if before is not None and ripe:
            _explain(before, claim, explained)
            gone.add(id(claim))
            failures.append((at, before))
        elif LADDER.index(claim.action) >= LADDER.index(Action.RESET_GPU):
            failures.append((at, claim))
    return [claim for claim in found if id(claim) not in gone]


def _echoes(found: Sequence[Claim], settings: HealthSettings, explained: Explained) -> list[Claim]:
    """43 and 45 in company follow from it; a 45 alone is the fabric manager's."""
    left: list[Claim] = []
    company = sorted((one for one in found if _is_company(one)), key=order)
    for claim in found:
        if claim.fault not in ECHOES:
            left.append(claim)
            continue
        root = next((one for one in company if one.near(claim, settings.window_s)), None)
        if claim.by_operator and claim.is_fault:
            left.append(claim)
        elif root is not None:
            _explain(root, claim, explained)
        elif claim.fault == SOLO and (claim.signals or claim.standing is not None):
            if claim.signals and not claim.by_operator:
                source = "NVIDIA, WORKFLOW_XID_45: alone it restarts the fabric manager"
                claim.ask(Action.RESTART_SERVICE, "solo-45", "a solo 45", source)
                claim.severity = Severity.ERROR
            left.append(claim)
        else:
            claim.action = Action.NONE
            left.append(claim)
    return left


def _is_company(claim: Claim) -> bool:
    """What a 45 can follow from: another error of the driver, whatever it asks for, or a serious fault."""
    if claim.fault in ECHOES or claim.fault == RECOVERY_XID:
        return False
    if claim.fault.startswith("xid-") and claim.signals:
        return True
    serious = RANK[claim.severity] >= RANK[Severity.ERROR] or claim.component in ("gpu", "nvswitch")
    return claim.is_fault and serious and claim.component != "agent"


def _alone_154(found: Sequence[Claim]) -> list[Claim]:
    """A 154 beside the fault that it is about has spoken through that fault."""
    said_for = {one.part for one in found if one.rule == "xid-154" and one.fault != RECOVERY_XID}
    other = {one.part for one in found if one.is_fault and one.fault != RECOVERY_XID and one.fault.startswith("xid-")}
    lost = {one.part for one in found if one.fault == GPU_LOST}
    return [one for one in found if one.fault != RECOVERY_XID or one.part not in said_for | other | lost]


def _explain(root: Claim, symptom: Claim, explained: Explained) -> None:
    root.explains[symptom.name] = None
    for name in symptom.explains:
        root.explains[name] = None
        explained[name] = root.name
    explained[symptom.name] = root.name

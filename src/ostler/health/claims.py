"""What each fault's own signals say, before its neighbours are looked at. Pure; the first half of `diagnosis.py`.

A claim is one fault on one device: what the catalogue asks for, replaced by what XID 154 says of that GPU, by what its
repeats on one link mean, and by what an operator's own rule says (`[health.rules.FAULT]`), in this order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ostler.faults.model import Action, Severity
from ostler.health.model import FaultRule, HealthSettings, Observed, Standing
from ostler.health.naming import device_of, fault_of
from ostler.health.parts import part
from ostler.health.rules import (
    AFTER_DRAIN,
    CATALOGUE_SOURCE,
    ECHOES,
    HARDWARE_LINK,
    LADDER,
    RANK,
    RECOVERY_ACTIONS,
    RECOVERY_XID,
    matches,
    worse,
)


@dataclass
class Claim:
    """One fault on one device while it is being judged."""

    fault: str
    component: str
    device: str
    part: str
    action: Action
    severity: Severity
    signals: list[Observed]
    why: str = "the catalogue's action"
    rule: str = "catalogue"
    source: str = CATALOGUE_SOURCE
    standing: Standing | None = None
    fresh: bool = False
    """Everything said of it was said by a first look after a boot."""
    count: int = 0
    by_operator: bool = False
    witnesses: list[Claim] = field(default_factory=list)
    explains: dict[str, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.fault}@{self.device}"

    @property
    def monitored(self) -> bool:
        """Told by something that looks again and again, not by a line that is said once."""
        if self.signals:
            return bool(self.signals[-1].monitor)
        return self.standing is not None and "monitor" in self.standing.evidence

    @property
    def is_fault(self) -> bool:
        return self.action is not Action.NONE

    @property
    def times(self) -> list[float]:
        said = [signal.received_at for signal in self.signals]
        return said or ([] if self.standing is None else [self.standing.last_at])

    def near(self, other: Claim, within: float) -> bool:
        """Whether some word of this was said within so many seconds of some word of the other."""
        return any(abs(mine - theirs) <= within for mine in self.times for theirs in other.times)

    def ask(self, action: Action, rule: str, why: str, source: str) -> None:
        self.action, self.rule, self.why, self.source = action, rule, why, source


def claims(
    signals: Sequence[Observed],
    groups: Mapping[tuple[str, str], Sequence[Observed]],
    standing: Sequence[Standing],
    settings: HealthSettings,
    inventory: Mapping[str, Any] | None,
    booted_at: float | None,
) -> list[Claim]:
    """One claim per fault and device: those said of in `groups`, and those that stand in the books.

    `signals` reach further back than `groups`: they are what is counted.
    """
    known = {(one.fault, one.device): one for one in standing}
    recovery = _recovery(groups, inventory)
    found: list[Claim] = []
    for (fault, device), group in groups.items():
        claim = _claim(fault, device, group, part(device, inventory))
        claim.standing = known.pop((fault, device), None)
        claim.fresh = _fresh(fault, group, settings, booted_at)
        claim.count = _times(group)
        _obey_recovery(claim, recovery)
        _count(claim, signals, settings)
        found.append(claim)
    for (fault, device), one in known.items():
        place = part(device, inventory)
        found.append(Claim(fault, one.component, device, place, one.action, one.severity, [], standing=one))
    return found


def repeated(claim: Claim, signals: Sequence[Observed], roots: Sequence[float], settings: HealthSettings) -> bool:
    """Whether an application's error came so often that a person should look: what followed a fault does not count.

    `roots` are the times at which something worse was said of the node.
    """
    if claim.fault in ECHOES or not claim.fault.startswith("xid-") or claim.is_fault or not claim.signals:
        return False
    since = max(one.received_at for one in claim.signals) - settings.repeat_window_s
    alone = [
        one
        for one in signals
        if (fault_of(one), device_of(one)) == (claim.fault, claim.device)
        and one.received_at >= since
        and not any(abs(one.received_at - at) <= settings.window_s for at in roots)
    ]
    claim.count = _times(alone)
    return claim.count >= settings.repeat_limit


def _claim(fault: str, device: str, group: Sequence[Observed], place: str) -> Claim:
    last = group[-1]
    severity = max((one.severity for one in group), key=RANK.__getitem__)
    action = max((one.action for one in group if not one.over), key=LADDER.index, default=Action.NONE)
    if last.monitor:  # a level: what it reads now counts
        severity, action = last.severity, last.action
    return Claim(fault, last.component, device, place, action, severity, list(group))


def _fresh(fault: str, group: Sequence[Observed], settings: HealthSettings, booted_at: float | None) -> bool:
    """A first look after a boot: a monitor's, and the driver's words about a GPU that it probes."""
    if booted_at is None:
        return False
    until = booted_at + settings.boot_grace_s
    if group[-1].source == "monitor" or matches(fault, ("gpu-off-bus",)):
        said_by_79 = any(one.kind == "xid" for one in group)
        return not said_by_79 and all(one.received_at < until for one in group)
    return False


def _recovery(
    groups: Mapping[tuple[str, str], Sequence[Observed]], inventory: Mapping[str, Any] | None
) -> dict[str, str]:
    """Part → the text of the newest XID 154 about it; texts we do not know say nothing."""
    said: dict[str, tuple[float, int, str]] = {}
    for (fault, device), group in groups.items():
        for one in group if fault == RECOVERY_XID else ():
            if one.recovery in RECOVERY_ACTIONS:
                place = part(device, inventory)
                word = (one.received_at, LADDER.index(RECOVERY_ACTIONS[one.recovery]), one.recovery)
                said[place] = max(said.get(place, word), word)
    return {place: word[2] for place, word in said.items()}


def _obey_recovery(claim: Claim, recovery: Mapping[str, str]) -> None:
    """XID 154 outranks the static table for the kernel's own faults of that GPU."""
    text = recovery.get(claim.part)
    if text is None or claim.monitored or not (claim.is_fault or claim.fault == "xid-94"):
        return
    if claim.fault == RECOVERY_XID:
        claim.ask(RECOVERY_ACTIONS[text], "xid-154", "what XID 154 asks for", "NVIDIA's XID catalogue: 154")
    elif claim.fault not in ECHOES:
        why = "XID 154 outranks the catalogue"
        claim.ask(RECOVERY_ACTIONS[text], "xid-154", why, "NVIDIA's XID catalogue: 154")
    if text in AFTER_DRAIN:
        claim.severity = Severity.ERROR  # the driver lets running work end first


def _count(claim: Claim, signals: Sequence[Observed], settings: HealthSettings) -> None:
    """What repeats on one link mean, and what an operator's rule says."""
    rule = settings.rules.get(claim.fault)
    if claim.fault == "xid-74" and rule is None:
        _count_links(claim, signals, settings)
    if rule is not None:
        _obey_operator(claim, signals, rule)


def _count_links(claim: Claim, signals: Sequence[Observed], settings: HealthSettings) -> None:
    since = max(one.received_at for one in claim.signals) - settings.repeat_window_s
    links: dict[str, list[Observed]] = defaultdict(list)
    for one in signals:
        same = (fault_of(one), device_of(one)) == (claim.fault, claim.device)
        if same and one.link and one.received_at >= since and one.decoded in HARDWARE_LINK:
            links[one.link].append(one)
    for link, said in sorted(links.items()):
        if _times(said) > settings.link_repeats and claim.action is not Action.TRIAGE:
            why = f"link {link} failed {_times(said)} times within {settings.repeat_window_s / 3600:g} h: hardware"
            claim.ask(Action.TRIAGE, "nvlink-repeats", why, "NVIDIA, WORKFLOW_NVLINK_ERR: more than twice on one link")
            claim.severity = worse(claim.severity, Severity.ERROR)


def _obey_operator(claim: Claim, signals: Sequence[Observed], rule: FaultRule) -> None:
    source = f"[health.rules.{claim.fault}]"
    newest = max(one.received_at for one in claim.signals)
    said = _times(
        [
            one
            for one in signals
            if (fault_of(one), device_of(one)) == (claim.fault, claim.device)
            and one.received_at >= newest - rule.window_s
            and not one.over
        ]
    )
    claim.by_operator = True
    claim.count = said
    if rule.count and said < rule.count:
        claim.ask(Action.NONE, "operator", f"{said} of {rule.count} within {rule.window_s:g} s: recorded", source)
        return
    times = f"{said} times within {rule.window_s:g} s: " if rule.count else ""
    action = Action(rule.action) if rule.action else claim.action
    if rule.count and action is Action.NONE and not rule.action:
        action = Action.WATCH
    claim.ask(action, "operator", f"{times}an operator's rule asks for {action}", source)
    if rule.severity:
        claim.severity = Severity(rule.severity)


def _times(group: Sequence[Observed]) -> int:
    """How often it was said, counting what the agent folded."""
    return sum(1 + signal.repeats for signal in group)

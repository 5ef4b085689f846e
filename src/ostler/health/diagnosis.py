"""From one node's recent signals to diagnoses: pure, so that tests, replays and people can run it. For `intake.py`.

In this order: what each fault's own signals say (`claims.py`: XID 154 outranks the table, repeats count, an operator's
rule outranks both); which faults are one told by several witnesses, and which follow from another (`companions.py` by
the tables of `rules.py`); how sure that is and what it rests on (`evidence.py`). Isolated application errors are only
recorded; repeats on one GPU are a finding to look at, never a reboot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ostler.faults.model import Action, Severity
from ostler.health import companions, evidence
from ostler.health.claims import Claim, claims, repeated
from ostler.health.model import Diagnosis, HealthSettings, Observed, Standing
from ostler.health.naming import device_of, fault_name, fault_of
from ostler.health.rules import CATALOGUE_SOURCE, ECHOES, ENDS, RANK

__all__ = ["Judged", "census", "device_of", "diagnose", "ended", "fault_name", "fault_of", "judge"]


@dataclass(frozen=True)
class Judged:
    """What a node's signals amount to."""

    diagnoses: list[Diagnosis] = field(default_factory=list)
    """The worst first."""
    explained: Mapping[str, str] = field(default_factory=dict)
    """FAULT@DEVICE → what explains it: a finding that says the one is withdrawn in favour of the other."""


def diagnose(signals: Sequence[Observed], settings: HealthSettings) -> list[Diagnosis]:
    """What these signals of one node amount to now, when nothing else is known of it; worst first."""
    return judge(signals, settings).diagnoses


def judge(
    signals: Sequence[Observed],
    settings: HealthSettings,
    *,
    standing: Sequence[Standing] = (),
    inventory: Mapping[str, Any] | None = None,
    booted_at: float | None = None,
) -> Judged:
    """What these signals of one node amount to, beside what stands in the books about it.

    `signals` lie within `settings.lookback_s`, in the order of their arrival; `booted_at` is when the present boot was
    first heard of (domain time).
    """
    signals = sorted(signals, key=lambda one: one.received_at)  # stable: the order within one moment is kept
    if not signals:
        return Judged()
    newest = signals[-1].received_at
    recent = [one for one in signals if one.received_at >= newest - settings.window_s and one.standing is None]
    groups: dict[tuple[str, str], list[Observed]] = defaultdict(list)
    for signal in recent:
        groups[fault_of(signal), device_of(signal)].append(signal)
    over = ended(recent)
    for key in over:
        groups.pop(key, None)
    counted = census(signals)
    known = [one for one in standing if (one.fault, one.device) not in over and _stands(one, counted)]
    found = claims(signals, groups, known, settings, inventory, booted_at)
    left, explained = companions.fold(found, settings)
    roots = [at for one in found if _is_root(one) for at in one.times]
    said: dict[tuple[str, str], list[Observed]] = defaultdict(list)
    for signal in signals:
        said[fault_of(signal), device_of(signal)].append(signal)
    for claim in left:
        if repeated(claim, said.get((claim.fault, claim.device), ()), roots, settings):
            why = f"{claim.count} within {settings.repeat_window_s / 3600:g} h"
            claim.ask(Action.WATCH, "repeats", why, CATALOGUE_SOURCE)
            claim.severity = Severity.WARNING
    diagnoses = [evidence.diagnosis(one, settings, booted_at) for one in left if _is_told(one)]
    diagnoses.sort(key=lambda one: (-RANK[one.severity], one.fault, one.device))
    return Judged(diagnoses, explained)


def _is_told(claim: Claim) -> bool:
    """Whether a claim makes or renews a finding: it is a fault, and something was said that concerns it."""
    said = claim.signals or claim.explains or any(one.signals for one in claim.witnesses)
    return claim.is_fault and bool(said)


def _is_root(claim: Claim) -> bool:
    return claim.is_fault and claim.fault not in ECHOES and RANK[claim.severity] >= RANK[Severity.ERROR]


def _stands(one: Standing, counted: Mapping[str, frozenset[str]]) -> bool:
    """Whether the monitor that found it still does, as far as its census says."""
    standing = counted.get(str(one.evidence.get("monitor", "")))
    return standing is None or f"{one.fault}@{one.device}" in standing


def ended(signals: Iterable[Observed]) -> set[tuple[str, str]]:
    """(fault, device) pairs that the newest word about them says are over."""
    over: set[tuple[str, str]] = set()
    for signal in signals:
        fault, device = fault_of(signal), device_of(signal)
        if signal.over:
            over.add((fault, device))
            continue
        over.discard((fault, device))
        if fault in ENDS:
            over.add((ENDS[fault], device))
    return over


def census(signals: Iterable[Observed]) -> dict[str, frozenset[str]]:
    """Monitor → what stands according to its last census, as `fault@device`; a monitor that said none is absent."""
    said: dict[str, frozenset[str]] = {}
    for signal in signals:
        if signal.standing is not None:
            said[signal.monitor] = frozenset(one.lower() for one in signal.standing)
        elif signal.monitor in said:  # said after its census: known to stand, or to be over
            name = f"{fault_of(signal)}@{device_of(signal)}"
            said[signal.monitor] = said[signal.monitor] - {name} if signal.over else said[signal.monitor] | {name}
    return said

"""Who has to get up for what: pure, tested as a table. Called by `watch.py` with everything that stands now.

Pages are few on purpose: an incident is one page whatever its nodes, what Ostler mends by itself is none, and more
single findings than a person can read are one.
"""

from __future__ import annotations

from ostler.adapters.pager.port import Page, Urgency
from ostler.oncall.model import Facts, OncallSettings, OpenIncident, Unattended

URGENCY = {"ostler-suspects-itself": Urgency.CRITICAL, "leak": Urgency.CRITICAL}
"""Cause of an incident → urgency; any other is an error."""

DANGEROUS = frozenset({"bmc-leak"})
"""Findings that page although Ostler acts on them: somebody has to go there."""


def pages(facts: Facts, settings: OncallSettings) -> list[Page]:
    """What should ring now, most urgent first."""
    found = [_incident(one) for one in facts.incidents]
    if len(facts.unattended) > settings.most:
        found.append(_many(facts.unattended))
    else:
        found += [_finding(one) for one in facts.unattended]
    found += [
        Page(
            f"job:{one.id}",
            Urgency.ERROR,
            f"{one.procedure} of {one.subject} waits for a person: {one.why}"[:1024],
            {"procedure": one.procedure, "node": one.subject},
            one.since,
        )
        for one in facts.stuck
    ]
    if facts.held:
        nodes = "1 node" if facts.held == 1 else f"{facts.held} nodes"
        summary = f"the brake has held back the repair of {nodes} for more than {settings.held_s / 60:g} min"
        found.append(Page("brake:held", Urgency.WARNING, summary, {}, facts.held_since))
    order = list(Urgency)
    return sorted(found, key=lambda page: (order.index(page.urgency), page.key))


def _incident(one: OpenIncident) -> Page:
    labels = {"cause": one.cause, "scope": one.scope, "subject": one.subject}
    if one.scope == "rack":
        labels["rack"] = one.subject
    return Page(f"incident:{one.id}", URGENCY.get(one.cause, Urgency.ERROR), one.summary[:1024], labels, one.since)


def _finding(one: Unattended) -> Page:
    urgency = Urgency.CRITICAL if one.fault in DANGEROUS else Urgency.ERROR if one.fatal else Urgency.WARNING
    labels = {"node": one.node, "fault": one.fault, **({"rack": one.rack} if one.rack else {})}
    if one.device:
        labels["device"] = one.device
    summary = f"{one.node}: {one.fault}: {one.message} ({one.why})"
    return Page(f"finding:{one.id}", urgency, summary[:1024], labels, one.since)


def _many(unattended: tuple[Unattended, ...]) -> Page:
    worst = max(one.fatal for one in unattended)
    faults = sorted({one.fault for one in unattended})
    names = ", ".join(faults[:8]) + (", …" if len(faults) > 8 else "")
    count = len({one.node for one in unattended})
    return Page(
        "findings:many",
        Urgency.CRITICAL if worst else Urgency.ERROR,
        f"{len(unattended)} findings on {count} nodes that Ostler does not act on: {names}",
        {},
        min(one.since for one in unattended),
    )

"""What pages and how urgently, as a table."""

from __future__ import annotations

import pytest

from ostler.adapters.pager.port import Urgency
from ostler.oncall.model import Facts, OncallSettings, OpenIncident, Stuck, Unattended
from ostler.oncall.policy import pages

SETTINGS = OncallSettings(most=3)


def incident(cause: str, scope: str = "rack", subject: str = "r1") -> OpenIncident:
    return OpenIncident("inc_1", cause, scope, subject, "32 nodes of fabric leaf-3 report ib-port-down together", 10.0)


def unattended(number: int = 1, fault: str = "gpu-off-bus", fatal: bool = True) -> Unattended:
    return Unattended(f"fnd_{number}", f"gpu-{number}", "r1", fault, "", fatal, "it fell", "not granted", 5.0 + number)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(), []),
        (Facts(incidents=(incident("shared-domain"),)), [("incident:inc_1", Urgency.ERROR)]),
        (Facts(incidents=(incident("ostler-suspects-itself", "fleet"),)), [("incident:inc_1", Urgency.CRITICAL)]),
        (Facts(incidents=(incident("leak", "fleet"),)), [("incident:inc_1", Urgency.CRITICAL)]),
        (Facts(unattended=(unattended(),)), [("finding:fnd_1", Urgency.ERROR)]),
        (Facts(unattended=(unattended(fatal=False),)), [("finding:fnd_1", Urgency.WARNING)]),
        (Facts(unattended=(unattended(fault="bmc-leak"),)), [("finding:fnd_1", Urgency.CRITICAL)]),
        (Facts(stuck=(Stuck("job_1", "remediation", "gpu-1", "unknown step", 1.0),)), [("job:job_1", Urgency.ERROR)]),
        (Facts(held=2, held_since=7.0), [("brake:held", Urgency.WARNING)]),
    ],
)
def test_what_pages(facts: Facts, expected: list[tuple[str, Urgency]]) -> None:
    assert [(page.key, page.urgency) for page in pages(facts, SETTINGS)] == expected


def test_more_findings_than_anybody_reads_are_one_page() -> None:
    three = pages(Facts(unattended=tuple(unattended(n) for n in range(3))), SETTINGS)
    assert len(three) == 3
    four = pages(Facts(unattended=tuple(unattended(n, fatal=n == 2) for n in range(4))), SETTINGS)
    assert [page.key for page in four] == ["findings:many"]
    assert four[0].urgency is Urgency.CRITICAL
    assert four[0].since == 5.0
    assert four[0].summary == "4 findings on 4 nodes that Ostler does not act on: gpu-off-bus"


def test_the_most_urgent_comes_first() -> None:
    facts = Facts(incidents=(incident("leak", "fleet"),), unattended=(unattended(fatal=False),), held=1)
    assert [page.urgency for page in pages(facts, SETTINGS)] == [Urgency.CRITICAL, Urgency.WARNING, Urgency.WARNING]


def test_a_page_says_where_it_is() -> None:
    (page,) = pages(Facts(unattended=(unattended(),)), SETTINGS)
    assert page.labels == {"node": "gpu-1", "fault": "gpu-off-bus", "rack": "r1"}
    assert page.summary == "gpu-1: gpu-off-bus: it fell (not granted)"
    assert page.since == 6.0

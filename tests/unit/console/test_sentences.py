"""The console's words as tables: spans of time, counts, and what a part's past means."""

from __future__ import annotations

import pytest

from ostler.console.ladder import says
from ostler.console.sentences import count, kept_back, span
from ostler.faults.model import Action
from ostler.remediation.model import FaultRule, Past, RemediationSettings

NOW = 1_795_000_000.0  # 2026-11-18 11:06:40 UTC
HOUR = 3600.0


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        (NOW, NOW + 2 * HOUR, "11:06 – 13:06"),
        (NOW - 24 * HOUR, NOW - 22 * HOUR, "2026-11-17 11:06 – 13:06"),
        (NOW, NOW + 24 * HOUR, "2026-11-18 11:06 – 2026-11-19 11:06"),
        (NOW - 24 * HOUR, NOW, "2026-11-17 11:06 – 2026-11-18 11:06"),
        (NOW, None, "11:06 – open end"),
        (NOW - 48 * HOUR, None, "2026-11-16 11:06 – open end"),
    ],
)
def test_a_span_says_the_date_where_it_could_be_mistaken(start: float, end: float | None, told: str) -> None:
    assert span(start, end, NOW) == told


@pytest.mark.parametrize(("number", "told"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes")])
def test_a_count(number: int, told: str) -> None:
    assert count(number, "node") == told


def test_what_keeps_ostler_back_loses_only_its_formula() -> None:
    assert kept_back("the pool does not grant power: recorded as what Ostler would do") == (
        "the pool does not grant power"
    )
    assert kept_back("the node is unmanaged: no automatic lifecycle action.") == (
        "the node is unmanaged: no automatic lifecycle action"
    )


PROBATION = RemediationSettings().probation_s


@pytest.mark.parametrize(
    ("past", "told"),
    [
        (Past(), "Not repaired within 7 d."),
        (Past(1, Action.RESET_GPU), "1 of 2 repairs in place within 7 d."),
        (Past(2, Action.REBOOT), "2 of 2 repairs in place within 7 d: the next time a person looks."),
        (Past(2, Action.REBOOT, triages=1), "A technician had it already: the next time it goes back to the vendor."),
        (
            Past(1, Action.REBOOT, returned_at=NOW - HOUR),
            "1 of 2 repairs in place within 7 d. On probation until 2026-11-19 10:06 UTC: the same fault again goes one "
            "rung further than reboot.",
        ),
        (Past(1, Action.REBOOT, returned_at=NOW - PROBATION), "1 of 2 repairs in place within 7 d."),
    ],
)
def test_a_parts_past_in_a_sentence(past: Past, told: str) -> None:
    assert says("xid-48", past, NOW, RemediationSettings()) == told


def test_a_faults_own_rule_counts() -> None:
    rule = FaultRule(repair_limit=3, ladder=("reboot", "triage"))
    settings = RemediationSettings(faults={"xid-48": rule})
    assert says("xid-48", Past(2, Action.REBOOT), NOW, settings) == "2 of 3 repairs in place within 7 d."
    assert says("xid-48", Past(3, Action.REBOOT, triages=1), NOW, settings).endswith("the next time a person looks.")

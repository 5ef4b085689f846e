"""Error counters against their limits, both sides of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.fabric.links.errors import allowance, too_many
from ostler.fabric.links.judge import judge
from ostler.fabric.links.model import EventKind
from ostler.fabric.model import Port
from ostler.fabric.sweep import Ber
from tests.unit.fabric.links.scene import HOST, LEAF, LIMITS, UP, counted, event, kinds, look, troubles

MIN = 60.0
EDR = UP._replace(speed="EDR", speed_supported="EDR")


@pytest.mark.parametrize(
    ("errors", "minutes", "ill"),
    [
        (6, 12, False),  # proves 2.61 where 2.88 are allowed
        (7, 12, True),  # proves 3.29
        (7, 125, True),  # 3.29 against 3
        (6, 125, False),
        (2, 0.05, False),  # two never convict
        (3, 0.5, True),  # a busy short window does: 0.82 against 0.12
        (3, 12, False),  # a quiet one does not
        (13, 6 * 60, False),  # 7.69 against 8.64
        (15, 6 * 60, True),  # 9.25
        (0, 12, False),
    ],
)
def test_symbol_errors_of_ndr(errors: int, minutes: float, ill: bool) -> None:
    assert counted("symbol_error", errors, minutes * MIN) == [("symbol-errors", True)] * ill


@pytest.mark.parametrize(("errors", "ill"), [(120, False), (138, False), (139, True), (400, True)])
def test_symbol_errors_before_ndr_by_the_hour(errors: int, ill: bool) -> None:
    assert counted("symbol_error", errors, 3600, facts=EDR) == [("symbol-errors", True)] * ill


def test_more_bits_a_second_may_have_more_errors() -> None:
    ndr = allowance(900, "NDR", 4, LIMITS)
    assert allowance(900, "NDR", 2, LIMITS) == ndr / 2 and allowance(900, "XDR", 4, LIMITS) == 2 * ndr
    assert allowance(720, "NDR", 4, LIMITS) == pytest.approx(2.88) == allowance(7_000, "NDR", 4, LIMITS)
    assert allowance(7_400, "NDR", 4, LIMITS) == pytest.approx(2.96)
    assert allowance(7_500, "NDR", 4, LIMITS) == pytest.approx(3.0)
    assert allowance(3600, "", 0, LIMITS) == 120.0, "not known: the patient limit"


@given(st.integers(0, 400), st.floats(0.1, 1e6), st.floats(0, 1e6), st.sampled_from(["", "EDR", "NDR", "XDR"]))
def test_quiet_time_convicts_nobody(errors: int, seconds: float, more: float, speed: str) -> None:
    if not too_many(errors, seconds, speed, 4, LIMITS):
        assert not too_many(errors, seconds + more, speed, 4, LIMITS)


def test_the_sender_is_looked_at_first() -> None:
    (one,) = troubles(look(720, {LEAF: {"symbol_error": 50}}), look(0))
    assert (one.port, one.peer) == (HOST, LEAF) and one.measured["receiver"] == str(LEAF)
    assert one.message.startswith("leaf01 1 receives 50 symbol errors in 12 min") and "gpu-0001 mlx5_0" in one.message
    (two,) = troubles(look(720, {HOST: {"symbol_error": 50}, LEAF: {"symbol_error": 20}}), look(0))
    (more,) = troubles(look(720, {LEAF: {"symbol_error": 50}, HOST: {"symbol_error": 20}}), look(0))
    assert more.port == HOST
    assert two.port == LEAF and len(two.measured["also"]) == 1, "the end that receives more speaks"


def test_a_full_counter_proves_at_least_what_it_shows() -> None:
    (one,) = troubles(look(3600, {LEAF: {"symbol_error": 65_535}}), look(0))
    assert "at least 65535" in one.message and one.measured["at_least"]


def test_no_rate_across_unknown_time() -> None:
    cleared = {"symbol_error": 500, "port_xmit_data": 0}
    assert kinds(look(720, {LEAF: cleared}), look(0, {LEAF: {"symbol_error": 600}})) == []


PROBATION = [
    (7_559, 0, [("symbol-errors", True)]),  # 126 min less a second without errors: not clean yet
    (7_560, 0, []),
    (900, 1, [("symbol-errors", True)]),
]


@pytest.mark.parametrize(("at", "errors", "said"), PROBATION)
def test_a_convicted_ndr_link_is_clean_after_126_minutes(at: float, errors: int, said: list[tuple[str, bool]]) -> None:
    old = event(EventKind.ERRORS, 0.0)
    mine = type(old)(LEAF, HOST, old.kind, old.at)
    after = look(at, {LEAF: {"symbol_error": errors}})
    assert kinds(after, look(0), events=[mine]) == said
    assert kinds(look(at, facts=EDR), look(0, facts=EDR), events=[mine]) == [], "before NDR there is no probation"


def test_an_error_within_probation_starts_it_anew() -> None:
    _, first = judge(look(720, {LEAF: {"symbol_error": 50}}), look(0))
    assert [(one.kind, one.port, one.count) for one in first] == [("errors", LEAF, 50)]
    before = look(720, {LEAF: {"symbol_error": 50}})
    _, second = judge(look(7_000, {LEAF: {"symbol_error": 51}}), before, events=first)
    assert [one.kind for one in second] == ["errors"]
    _, none = judge(look(7_000, {LEAF: {"symbol_error": 50}}), before, events=first)
    assert none == []
    stuck = [look(at, {LEAF: {"symbol_error": 65_535}}) for at in (720, 1_440)]
    assert [one.kind for one in judge(stuck[1], stuck[0], events=first)[1]] == ["errors"], "full: not known to be clean"


def test_the_phys_own_count_where_no_counter_says_anything() -> None:
    def at(errors: int, seconds: float) -> dict[Port, Ber]:
        return {LEAF: Ber(symbol_errors=errors, seconds=seconds)}

    assert kinds(look(0, bers=at(7, 720))) == [("symbol-errors", True)]
    assert kinds(look(0, bers=at(6, 720))) == []
    assert kinds(look(720, bers=at(7, 720)), look(0)) == [("symbol-errors", True)], (
        "nothing to compare with: since cleared"
    )
    assert kinds(look(720, bers=at(107, 9_720)), look(0, bers=at(100, 9_000))) == [("symbol-errors", True)]
    assert kinds(look(720, bers=at(100, 9_720)), look(0, bers=at(100, 9_000))) == [], "old errors"
    assert kinds(look(720, bers=at(90, 30)), look(0, bers=at(80, 9_000))) == [], "cleared in between"


@pytest.mark.parametrize(
    ("counter", "count", "seconds", "said"),
    [
        ("local_link_integrity_errors", 1, 600, [("integrity", True)]),
        ("excessive_buffer_overrun_errors", 1, 600, [("integrity", True)]),
        ("port_rcv_errors", 600, 600, []),
        ("port_rcv_errors", 601, 600, [("rcv-errors", False)]),
        ("port_rcv_errors", 6_000, 600, [("rcv-errors", False)]),
        ("port_rcv_errors", 6_001, 600, [("rcv-errors", True)]),
        ("port_rcv_errors", 6_001, 59, []),  # too short for a rate
        ("port_xmit_discards", 60_000, 600, []),
        ("port_xmit_discards", 60_001, 600, [("discards", False)]),
        ("port_rcv_switch_relay_errors", 1 << 40, 600, []),
        ("port_rcv_remote_physical_errors", 60_000, 600, []),
        ("vl15_dropped", 60_000, 600, []),
    ],
)
def test_the_other_counters(counter: str, count: int, seconds: float, said: list[tuple[str, bool]]) -> None:
    assert counted(counter, count, seconds) == said


@pytest.mark.parametrize(("count", "ill"), [(50, False), (62, False), (63, True)])
def test_recoveries_a_minute(count: int, ill: bool) -> None:
    assert counted("link_error_recovery", count, 600) == [("recoveries", True)] * ill


def test_what_came_with_a_restart_is_shown_and_no_fault() -> None:
    after = look(600, {LEAF: {"local_link_integrity_errors": 3, "port_xmit_data": 0}})
    assert kinds(after, look(0, {LEAF: {"local_link_integrity_errors": 4}})) == [("integrity", False)]


def test_discards_of_a_link_that_is_down_say_nothing() -> None:
    after = look(600, {LEAF: {"port_xmit_discards": 65_535}}, down=True)
    assert "discards" not in [kind for kind, _ in kinds(after, look(0))]


def test_congestion_is_not_folded_into_what_is_physical() -> None:
    after = look(600, {LEAF: {"port_xmit_discards": 65_535, "symbol_error": 60}})
    assert kinds(after, look(0)) == [("symbol-errors", True), ("discards", False)]

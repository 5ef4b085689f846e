"""Root before symptom, as tables: what is one fault, what follows from another, and the near-misses that stay apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.faults.model import Action, Severity
from ostler.faults.monitored import MONITORED
from ostler.health.diagnosis import Judged, diagnose, judge
from ostler.health.model import Confidence, Diagnosis, FaultRule, HealthSettings, Observed, Standing
from ostler.health.rules import LADDER

SETTINGS = HealthSettings()
A, B = "0000:18:00", "0000:2a:00"
W, E, F, I = Severity.WARNING, Severity.ERROR, Severity.FATAL, Severity.INFO  # noqa: E741
NONE, WATCH, RESET, REBOOT = Action.NONE, Action.WATCH, Action.RESET_GPU, Action.REBOOT

KERNEL = {
    79: (F, REBOOT), 48: (F, RESET), 63: (W, NONE), 64: (E, RESET), 94: (W, NONE), 95: (F, RESET), 13: (I, NONE),
    31: (I, NONE), 43: (I, NONE), 45: (W, WATCH), 119: (F, RESET), 149: (F, RESET), 74: (W, WATCH),
}  # fmt: skip


def x(code: int, device: str = A, at: float = 0.0, **more: Any) -> Observed:
    severity, action = KERNEL[code]
    more = {"severity": severity, "action": action, **more}
    return Observed(int(at) + 1, "xid", str(code), device, "gpu", message=f"Xid {code}", received_at=at, **more)


def m(name: str, device: str = A, at: float = 0.0, **more: Any) -> Observed:
    row = MONITORED[name]
    more = {"source": "monitor", "monitor": "nvml", **more}
    return Observed(
        int(at) + 1, row.kind, row.code, device, row.component, row.severity, row.action, row.meaning, at, **more
    )


def sxid(at: float = 0.0, fatal: bool = True) -> Observed:
    severity, action = (F, REBOOT) if fatal else (W, WATCH)
    return Observed(1, "sxid", "20034", "0000:c5:00.0", "nvswitch", severity, action, "SXid", at)


def line(kind: str, code: str, device: str, component: str, severity: Severity, action: Action, at: float) -> Observed:
    return Observed(int(at) + 1, kind, code, device, component, severity, action, f"{kind} {code}", at)


def found(*signals: Observed, **more: Any) -> dict[str, Diagnosis]:
    return {one.fault: one for one in judge(signals, SETTINGS, **more).diagnoses}


def asks(*signals: Observed, **more: Any) -> dict[str, Action]:
    return {fault: one.action for fault, one in found(*signals, **more).items()}


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param([x(79), m("gpu-missing", "", 40)], {"gpu-off-bus": REBOOT}, id="a count names no GPU"),
        pytest.param([x(79), m("gpu-lost", A + ".0", 40)], {"gpu-off-bus": REBOOT}, id="NVML sees it too"),
        pytest.param([x(79), x(119, at=5), x(45, B, 6)], {"gpu-off-bus": REBOOT}, id="what a lost GPU says"),
        pytest.param([x(79), x(119, B, 5)], {"gpu-off-bus": REBOOT, "xid-119": RESET}, id="another GPU's own fault"),
        pytest.param([x(48)], {"xid-48": RESET}, id="48 solo"),
        pytest.param([x(48), x(63, at=1)], {"xid-48": RESET}, id="48 with 63"),
        pytest.param([x(63)], {}, id="63 is recorded"),
        pytest.param([x(63), m("gpu-row-remap-pending", at=30)], {"gpu-row-remap-pending": RESET}, id="63 and NVML"),
        pytest.param([x(64), m("gpu-row-remap-failed", at=30)], {"gpu-row-remap-failed": Action.RMA}, id="no spare"),
        pytest.param([x(48), m("gpu-sram-threshold", at=9)], {"gpu-sram-threshold": Action.TRIAGE}, id="SRAM flag"),
        pytest.param([x(94)], {}, id="contained and nothing else"),
        pytest.param([x(94), x(63, at=1)], {"xid-94": RESET}, id="contained, a row is remapped"),
        pytest.param([x(94), x(63, B, 1)], {}, id="a row of another GPU"),
        pytest.param([sxid(), x(149, at=20), x(149, B, 29)], {"sxid-20034": REBOOT}, id="by-products within 30 s"),
        pytest.param([sxid(), x(149, at=31)], {"sxid-20034": REBOOT, "xid-149": RESET}, id="31 s are too late"),
        pytest.param([sxid(fatal=False), x(149, at=5)], {"sxid-20034": WATCH, "xid-149": RESET}, id="a mild root"),
        pytest.param([x(149), m("gpu-nvlink-down", at=50)], {"xid-149": RESET}, id="a monitor says the link is down"),
        pytest.param([x(74), m("gpu-nvlink-down", at=50)], {"xid-74": WATCH, "gpu-nvlink-down": REBOOT}, id="mild 74"),
        pytest.param([x(31), x(45, at=1)], {}, id="45 beside an application's error"),
        pytest.param([x(31), x(45, at=301)], {"xid-45": Action.RESTART_SERVICE}, id="45 long after"),
        pytest.param(
            [m("bmc-hot", "Inlet", source="bmc", monitor="bmc"), m("gpu-hw-slowdown", at=9)],
            {"bmc-hot": Action.TRIAGE},
            id="heat slows",
        ),
        pytest.param(
            [m("bmc-leak", "L", source="bmc", monitor="bmc"), m("bmc-power-off", "", 9, source="bmc", monitor="bmc")],
            {"bmc-leak": Action.POWER_OFF},
            id="a leak beats",
        ),
    ],
)
def test_what_is_made_of_signals(signals: list[Observed], expected: dict[str, Action]) -> None:
    assert asks(*signals) == expected


def test_two_gpus_that_fail_the_nvlink_at_one_time_have_one_root() -> None:
    both = diagnose([x(149, B), x(149, A)], SETTINGS)
    assert [(one.device, one.evidence["explains"]) for one in both] == [(A, [f"xid-149@{B}"])]
    apart = diagnose([x(149, A), x(149, B, 31)], SETTINGS)
    assert {one.device for one in apart} == {A, B}


@pytest.mark.parametrize(("more", "severity"), [([x(63, at=1)], E), ([x(64, at=1)], E), ([], F), ([x(63, B, 1)], F)])
def test_drain_and_reset_lets_work_end_first(more: list[Observed], severity: Severity) -> None:
    assert found(x(48), *more)["xid-48"].severity is severity


def test_an_uncontained_error_waits_for_nobody() -> None:
    assert found(x(95), x(63, at=1), m("gpu-row-remap-pending", at=2))["xid-95"].severity is F
    assert [one.severity for one in found(x(48), x(95), x(63, at=1)).values()] == [F]


def test_what_its_monitor_does_not_count_any_more_explains_nothing() -> None:
    gone = Standing("gpu-lost", "gpu", A, E, Confidence.MEDIUM, REBOOT, "", -5.0, {"monitor": "nvml"})
    census = Observed(1, "monitor", "census", "nvml", "agent", I, NONE, "", 0.0, monitor="nvml", standing=())
    assert asks(census, x(119, at=1), standing=[gone]) == {"xid-119": RESET}
    assert asks(x(119, at=1), standing=[gone]) == {"gpu-lost": REBOOT}


def test_one_port_under_two_names() -> None:
    down = line("ib-link", "down", "0000:5e:00.0", "nic", W, WATCH, 0.0)
    port = m("ib-port-down", "mlx5_0/1", 30, monitor="infiniband")
    inventory = {"nics": [{"name": "mlx5_0", "pci": "0000:5e:00.0"}]}
    one = found(down, port, inventory=inventory)
    assert {fault: (row.action, row.confidence) for fault, row in one.items()} == {
        "ib-port-down": (REBOOT, Confidence.HIGH)
    }
    assert set(found(down, port)) == {"ib-link-down", "ib-port-down"}, "without an inventory nobody knows"


@pytest.mark.parametrize(
    ("signals", "fault", "confidence"),
    [
        ([x(79)], "gpu-off-bus", Confidence.HIGH),
        ([m("gpu-missing", "")], "gpu-missing", Confidence.MEDIUM),
        ([x(79), m("gpu-missing", "", 9)], "gpu-off-bus", Confidence.HIGH),
        ([m("monitor-dead", "nvml")], "monitor-dead", Confidence.LOW),
        ([line("xid", "999", A, "gpu", W, WATCH, 0.0)], "xid-999", Confidence.LOW),
        ([m("bmc-leak", "L", source="bmc", monitor="bmc")], "bmc-leak", Confidence.HIGH),
    ],
)
def test_how_sure_it_is(signals: list[Observed], fault: str, confidence: Confidence) -> None:
    assert found(*signals)[fault].confidence is confidence


def test_a_first_look_after_boot_proves_nothing_and_a_second_does() -> None:
    look = m("gpu-missing", "", 10)
    assert found(look, booted_at=0.0)["gpu-missing"].confidence is Confidence.LOW
    assert found(look, booted_at=0.0)["gpu-missing"].evidence["low_until"] == SETTINGS.boot_grace_s
    assert found(m("gpu-missing", "", 130), booted_at=0.0)["gpu-missing"].confidence is Confidence.MEDIUM
    words = Observed(1, "gpu-off-bus", "", A, "gpu", F, REBOOT, "fallen off", 10.0)
    assert found(words, booted_at=0.0)["gpu-off-bus"].confidence is Confidence.LOW
    assert found(words, x(79, at=11), booted_at=0.0)["gpu-off-bus"].confidence is Confidence.HIGH


def standing(fault: str, device: str, action: Action, last_at: float = -5000.0, **evidence: Any) -> Standing:
    return Standing(fault, "gpu", device, F, Confidence.HIGH, action, fault, last_at, evidence)


def test_what_stands_in_the_books_explains_what_is_said_now() -> None:
    lost = standing("gpu-off-bus", A, REBOOT)
    again = judge([m("gpu-missing", "")], SETTINGS, standing=[lost])
    assert [(one.fault, one.renews) for one in again.diagnoses] == [("gpu-off-bus", True)]
    assert asks(x(45), standing=[lost]) == {"xid-45": Action.RESTART_SERVICE}, "that was long ago"
    fresh = standing("gpu-off-bus", A, REBOOT, last_at=-10.0)
    echo = judge([x(45)], SETTINGS, standing=[fresh])
    assert [(one.fault, one.renews) for one in echo.diagnoses] == [("gpu-off-bus", False)], "an echo is not it again"
    assert echo.explained == {f"xid-45@{A}": f"gpu-off-bus@{A}"}


def test_a_symptom_that_has_a_finding_is_withdrawn_for_its_root() -> None:
    early = standing("xid-45", A, Action.RESTART_SERVICE, last_at=-3.0)
    assert judge([x(79)], SETTINGS, standing=[early]).explained == {f"xid-45@{A}": f"gpu-off-bus@{A}"}


def test_one_link_more_than_twice_is_hardware() -> None:
    def said(links: str) -> Action:
        signals = [x(74, at=600.0 * n, link=link, decoded="ecc") for n, link in enumerate(links)]
        return diagnose(signals, SETTINGS)[0].action

    assert (said("44"), said("444"), said("456")) == (WATCH, Action.TRIAGE, WATCH)
    echoes = [x(74, at=600.0 * n, link="4", decoded="sympathetic") for n in range(3)]
    assert diagnose(echoes, SETTINGS)[0].action is WATCH


def test_an_operators_rule_outranks_the_table() -> None:
    settings = HealthSettings(rules={"xid-31": FaultRule(3, 600.0, "reset-gpu", "error"), "xid-119": FaultRule(2)})
    three = [x(31, at=100.0 * n) for n in range(3)]
    assert diagnose(three[:2], settings) == []
    assert [(one.action, one.severity, one.evidence["source"]) for one in diagnose(three, settings)] == [
        (RESET, E, "[health.rules.xid-31]")
    ]
    assert diagnose([x(119)], settings) == []
    assert [one.action for one in diagnose([x(119), x(119, at=5)], settings)] == [RESET]


@pytest.mark.parametrize("wrong", [{"action": "explode"}, {"action": "power-off"}, {"severity": "bad"}])
def test_an_impossible_rule_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is one of"):
        FaultRule(action=wrong.get("action", ""), severity=wrong.get("severity", ""))


ANY = st.sampled_from([*KERNEL])
SIMULTANEOUS = st.lists(st.tuples(ANY, st.sampled_from([A, B])), min_size=1, max_size=7, unique=True)


def plain(judged: Judged) -> list[tuple[object, ...]]:
    return [
        (one.fault, one.device, one.action, one.severity, one.confidence, sorted(one.evidence.get("explains", ())))
        for one in judged.diagnoses
    ]


@given(SIMULTANEOUS, st.randoms(use_true_random=False))
def test_no_order_of_simultaneous_signals_matters(said: list[tuple[int, str]], random: Any) -> None:
    signals = [x(code, device) for code, device in said]
    shuffled = list(signals)
    random.shuffle(shuffled)
    assert plain(judge(signals, SETTINGS)) == plain(judge(shuffled, SETTINGS))


@given(SIMULTANEOUS, st.sampled_from([43, 45, 13, 31]), st.sampled_from([A, B]), st.floats(0.0, 250.0))
def test_a_symptom_changes_no_roots_action(said: list[tuple[int, str]], code: int, device: str, at: float) -> None:
    roots = [x(code, device) for code, device in said if KERNEL[code][1] not in (NONE, WATCH)]
    if not roots:
        return
    before = {(one.fault, one.device): (one.action, one.severity) for one in diagnose(roots, SETTINGS)}
    with_it = diagnose([*roots, x(code, device, at)], SETTINGS)
    after = {(one.fault, one.device): (one.action, one.severity) for one in with_it}
    assert after == before


@given(SIMULTANEOUS)
def test_everything_that_asks_for_something_is_found_or_explained(said: list[tuple[int, str]]) -> None:
    judged = judge([x(code, device) for code, device in said], SETTINGS)
    told = {f"{one.fault}@{one.device}" for one in judged.diagnoses}
    for code, device in said:
        name = f"{'gpu-off-bus' if code == 79 else f'xid-{code}'}@{device}"
        if KERNEL[code][1] is not NONE:
            assert name in told or name in judged.explained
    strongest = max((LADDER.index(KERNEL[code][1]) for code, _ in said if code != 45), default=0)
    found_ = max((LADDER.index(one.action) for one in judged.diagnoses), default=0)
    assert found_ >= strongest or found_ >= LADDER.index(RESET), "folding leaves nothing without a remedy"

"""Every rule of the GPU monitor with its near miss, on samples as NVML gives them. Time is a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ostler.agent.monitors.gpu_memory import Agreed, Rise
from ostler.agent.monitors.gpu_rules import Gpu
from ostler.agent.monitors.nvml import Fabric, Link, Sample
from ostler.faults.limits import Limits
from ostler.faults.metrics import METRICS

PCI = "0000:1b:00.0"
PERIOD = 30.0


def healthy(**changes: Any) -> Sample:
    """An H100 at rest."""
    sample = Sample(
        serial="1652322000000",
        model="NVIDIA H100 80GB HBM3",
        temperature=41.0,
        slowdown_at=89.0,
        shutdown_at=92.0,
        memory_temperature=52.0,
        memory_limit=95.0,
        margin=46.0,
        power=118.0,
        power_limit=700.0,
        power_default=700.0,
        energy_j=1000.0,
        sm_clock=1980.0,
        memory_clock=2619.0,
        utilisation=0.0,
        memory_utilisation=0.0,
        memory_used=0.01,
        reasons=1,
        pcie_gen=5,
        pcie_gen_max=5,
        pcie_width=16,
        pcie_width_max=16,
        pcie_tx=1.0,
        pcie_rx=1.0,
        pcie_replays=0,
        ecc_corrected=0,
        ecc_uncorrected=0,
        ecc_uncorrected_ever=0,
        sram_exceeded=False,
        remap_pending=False,
        remap_failed=False,
        gsp=True,
        gsp_default=True,
        gsp_version="570.124.06",
        persistence=True,
        fabric=Fabric("completed"),
        links={n: Link(True, 0, 0) for n in range(18)},
    )
    return replace(sample, **changes)


class Story:
    """One GPU looked at again and again, beside healthy siblings."""

    def __init__(self, siblings: Sequence[Sample] | None = None) -> None:
        self.gpu = Gpu(PCI, Limits())
        self.now = 1000.0
        others = [healthy()] * 7 if siblings is None else siblings
        self.siblings = [replace(one, serial=f"16523220000{n}") for n, one in enumerate(others, 11)]

    def look(self, sample: Sample, times: int = 1) -> set[str]:
        """Names of what stands after the last of these looks."""
        found: set[str] = set()
        for _ in range(times):
            said = self.gpu.look(sample, self.siblings, self.now)
            assert all(fault.device == PCI for fault in said)
            found = {f"{fault.kind}-{fault.code}" for fault in said}
            self.now += PERIOD
        return found


def test_a_healthy_gpu_says_nothing_and_measures_everything() -> None:
    story = Story()
    assert story.look(healthy(), 30) == set()
    story.look(healthy(energy_j=1000.0 + 118 * PERIOD, nvlink_tx_kib=5e6, nvlink_rx_kib=6e6))
    story.look(healthy(energy_j=1000.0 + 118 * PERIOD * 2, nvlink_tx_kib=6e6, nvlink_rx_kib=7e6))
    assert set(story.gpu.readings) == set(METRICS)
    assert story.gpu.readings["energy_w"] == pytest.approx(118)
    assert story.gpu.readings["nvlink_tx_mb_s"] == pytest.approx(1e6 * 1024 / 1e6 / PERIOD)


def test_a_gpu_that_supports_nothing_says_nothing() -> None:
    story = Story(siblings=())
    assert story.look(Sample(serial="1", model="old"), 30) == set()
    assert story.gpu.readings == {}


LEVELS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("gpu-ecc-uncorrected", {"ecc_uncorrected": 1}, {"ecc_uncorrected": 0, "ecc_uncorrected_ever": 7}),
    ("gpu-sram-threshold", {"sram_exceeded": True}, {"sram_exceeded": None}),
    ("gpu-row-remap-pending", {"remap_pending": True}, {"remap_pending": None}),
    ("gpu-row-remap-failed", {"remap_failed": True}, {"remap_failed": None}),
    ("gpu-pages-pending", {"pages_pending": True}, {"pages_pending": False}),
    ("gpu-pages-retired", {"pages_retired": 60}, {"pages_retired": 59}),
]


@pytest.mark.parametrize(("name", "bad", "near"), LEVELS, ids=[row[0] for row in LEVELS])
def test_what_the_hardware_itself_calls_a_fault_stands_at_the_first_look(
    name: str, bad: dict[str, Any], near: dict[str, Any]
) -> None:
    assert Story().look(healthy(**near), 3) == set()
    story = Story()
    assert story.look(healthy(**bad)) == {name}
    assert story.look(healthy(**near)) == set()


NOISY: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("gpu-hot", {"temperature": 89.0}, {"temperature": 88.0, "margin": 1.0}),
    ("gpu-hot", {"margin": 0.0}, {"margin": 1.0}),
    ("gpu-hot", {"margin": -4.0, "temperature": None, "slowdown_at": None}, {"margin": None, "slowdown_at": None}),
    ("gpu-memory-hot", {"memory_temperature": 95.0}, {"memory_temperature": 94.0}),
    ("gpu-memory-hot", {"memory_temperature": 99.0}, {"memory_temperature": 99.0, "memory_limit": None}),
    ("gpu-power-capped", {"power_limit": 500.0}, {"power_limit": 694.0}),
    ("gpu-pcie-width", {"pcie_width": 8}, {"pcie_width": 8, "pcie_width_max": 8}),
    ("gpu-pcie-gen", {"pcie_gen": 4, "utilisation": 0.9}, {"pcie_gen": 1, "utilisation": 0.05}),
    ("gpu-pcie-gen", {"pcie_gen": 4, "utilisation": 0.1}, {"pcie_gen": 4, "utilisation": None}),
    ("gpu-persistence-off", {"persistence": False}, {"persistence": None}),
    ("gpu-identity", {"serial": None}, {"serial": "x"}),
    ("gpu-identity", {"serial": "1652322000012"}, {"serial": "1652322000099"}),
    ("gpu-fabric", {"fabric": Fabric("completed", "Unknown Error")}, {"fabric": None}),
    ("gpu-fabric", {"fabric": Fabric("completed", "", ("route unhealthy",))}, {"fabric": Fabric("in-progress")}),
    ("gpu-gsp", {"gsp": False, "gsp_version": None}, {"gsp": False, "gsp_default": False, "gsp_version": None}),
    ("gpu-gsp", {"gsp_version": "550.54"}, {"gsp_version": None}),
]


@pytest.mark.parametrize(("name", "bad", "near"), NOISY)
def test_what_may_be_noise_must_be_seen_twice(name: str, bad: dict[str, Any], near: dict[str, Any]) -> None:
    assert Story().look(healthy(**near), 4) == set()
    story = Story()
    assert story.look(healthy()) == set()
    assert story.look(healthy(**bad)) == set(), "one look is none"
    assert story.look(healthy()) == set()
    assert story.look(healthy(**bad), 2) == {name}
    assert story.look(healthy()) == {name}, "nor does one good look end it"
    assert story.look(healthy()) == set()


def test_between_hot_and_cooled_nothing_changes() -> None:
    story = Story()
    assert story.look(healthy(temperature=90.0), 2) == {"gpu-hot"}
    assert story.look(healthy(temperature=87.0, margin=2.0), 5) == {"gpu-hot"}
    assert story.look(healthy(temperature=86.0, margin=3.0), 2) == set()
    assert story.look(healthy(temperature=87.0, margin=2.0), 5) == set()


def test_an_idle_link_that_saves_power_ends_no_fault_of_its_generation() -> None:
    story = Story()
    assert story.look(healthy(pcie_gen=3, utilisation=0.9), 2) == {"gpu-pcie-gen"}
    assert story.look(healthy(pcie_gen=1, utilisation=0.0), 5) == {"gpu-pcie-gen"}
    assert story.look(healthy(pcie_gen=5, utilisation=0.9), 2) == set()


@pytest.mark.parametrize("bit", [0x08, 0x40, 0x80])
def test_hardware_slowdown_six_minutes_of_ten(bit: int) -> None:
    story = Story()
    story.look(healthy(), 6)
    for look in range(11):
        assert story.look(healthy(reasons=bit)) == set(), look
    story.look(healthy(), 8)
    assert story.look(healthy(reasons=bit)) == {"gpu-hw-slowdown"}
    assert story.gpu.readings["slowdown_share"] == pytest.approx(0.6)
    assert story.look(healthy(), 6) == {"gpu-hw-slowdown"}, "it ends well below what began it"
    assert story.look(healthy()) == set()


def test_five_minutes_and_a_half_in_ten_are_not_enough_nor_is_the_power_cap() -> None:
    story = Story()
    for _ in range(6):
        assert story.look(healthy(reasons=0x08), 11) == set()
        assert story.look(healthy(reasons=0x20 | 0x04), 9) == set()
    assert story.look(healthy(reasons=0x24), 60) == set()


def test_pcie_replays_by_their_rate() -> None:
    story = Story()
    story.look(healthy(pcie_replays=50_000))  # from before: the baseline
    assert story.look(healthy(pcie_replays=50_080)) == set(), "eight a minute"
    assert story.look(healthy(pcie_replays=50_081)) == {"gpu-pcie-replay"}
    assert story.look(healthy(pcie_replays=50_081), 20) == set()


def test_corrected_errors_by_their_rate() -> None:
    story = Story()
    story.look(healthy(ecc_corrected=5_000_000))
    assert story.look(healthy(ecc_corrected=5_009_999)) == set()
    assert story.look(healthy(ecc_corrected=5_010_000)) == {"gpu-ecc-corrected-rate"}
    assert story.look(healthy(ecc_corrected=5_010_000), 121) == set()


def test_a_link_that_recovers_often() -> None:
    story = Story()

    def said(recoveries: int) -> Sample:
        return healthy(links={**{n: Link(True, 0, 0) for n in range(18)}, 3: Link(True, recoveries, 0)})

    story.look(said(400))
    assert story.look(said(404)) == set()
    assert story.look(said(405)) == {"gpu-nvlink-errors"}
    assert story.gpu.readings["nvlink_errors_per_h"] == 5
    assert story.look(said(405), 121) == set()


def test_crc_errors_matter_at_a_hundred_a_second() -> None:
    def said(crc: int) -> Sample:
        return healthy(links={0: Link(True, 0, crc), 1: Link(True, 0, 0)})

    story = Story()
    for step in range(10):
        assert story.look(said(step * 2999)) == set()
    story = Story()
    story.look(said(0))
    assert story.look(said(3000)) == set()
    assert story.look(said(6000)) == {"gpu-nvlink-errors"}
    assert story.look(said(6000), 2) == set()


def without(*links: int, mig: bool = False) -> Sample:
    return healthy(mig=mig, links={n: Link(n not in links, 0, 0) for n in range(18)})


def test_a_link_is_down_if_its_siblings_have_it() -> None:
    story = Story()
    assert story.look(without(4)) == set()
    said = story.gpu.look(without(4), story.siblings, story.now)
    assert [(fault.code, fault.detail["links"]) for fault in said] == [("nvlink-down", "4")]


def test_a_link_is_down_if_it_worked_before() -> None:
    story = Story(siblings=[without(4), without(4)])
    assert story.look(healthy(), 2) == set()
    assert story.look(without(4), 2) == {"gpu-nvlink-down"}
    assert story.look(healthy(), 2) == set()


def test_a_link_that_nobody_uses_is_not_down() -> None:
    assert Story(siblings=[without(4, 5)] * 7).look(without(4, 5), 5) == set()
    assert Story(siblings=[]).look(without(4, 5), 5) == set()


def test_mig_switches_the_links_off() -> None:
    story = Story()
    assert story.look(healthy(), 2) == set()
    assert story.look(without(*range(18), mig=True), 5) == set()
    assert story.look(healthy(), 5) == set()


def test_a_fabric_manager_may_start_late() -> None:
    story = Story()
    assert story.look(healthy(fabric=Fabric("not-started")), 11) == set()
    assert story.look(healthy(fabric=Fabric("not-started")), 2) == {"gpu-fabric"}
    assert story.look(healthy(), 2) == set()


def test_siblings_that_do_not_agree_accuse_nobody() -> None:
    versions = [healthy(serial=f"s{n}", gsp_version="570" if n % 2 else "550") for n in range(6)]
    assert Story(siblings=versions).look(healthy(gsp_version="560"), 5) == set()


Make = Callable[[], Rise]


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [
        (10, 15, 5),
        (500, 3, 0),  # reset: what it counted meanwhile is unknown
        ((1 << 32) - 6, 4, 10),  # 32 bits wrapped
        (1 << 31, 4, 0),
        (10, (1 << 32) - 1, 0),  # saturated, or read from a dead bus
        (10, (1 << 64) - 1, 0),
        (10, None, 0),
    ],
)
def test_counters_that_are_reset_wrap_or_saturate(before: int, after: int | None, grown: int) -> None:
    rise = Rise(3600.0)
    rise.read(0.0, before)
    assert rise.total(0.0) == 0, "the first look is the baseline"
    rise.read(30.0, after)
    assert rise.total(30.0) == grown
    assert rise.per_s == pytest.approx(grown / 30)


def test_what_cannot_be_said_changes_nothing() -> None:
    agreed = Agreed(2)
    assert [agreed.read(said) for said in (True, None, True, None, False, None, False, None)] == [
        False, False, True, True, True, True, False, False,
    ]  # fmt: skip

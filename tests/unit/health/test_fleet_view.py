"""The fleet view: each rule with its near-miss, and what holds for any fleet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.health.fleet_metrics import INDEX, METRICS, Against, FleetSettings, Metric, Outlier, Rule
from ostler.health.fleet_view import FleetView

USUAL = {
    "temperature": 60, "memory-temperature": 75, "temperature-margin": 25, "power": 640, "sm-clock": 1755,
    "memory-clock": 2619, "utilisation": 99, "memory-utilisation": 60, "hardware-slowdown": 0, "power-violation": 0,
    "thermal-violation": 0, "pcie-replay": 0, "pcie-tx": 9000, "pcie-rx": 9000, "nvlink-tx": 90_000, "nvlink-rx": 90_000,
    "nvlink-crc": 0, "nvlink-replay": 0, "nvlink-recovery": 0, "ecc-correctable": 0,
}  # fmt: skip
BAD = {
    "temperature": 85, "memory-temperature": 92, "temperature-margin": 5, "power": 400, "sm-clock": 1200,
    "memory-clock": 1500, "hardware-slowdown": 30, "power-violation": 60, "thermal-violation": 30, "pcie-replay": 50,
    "pcie-tx": 2000, "pcie-rx": 2000, "nvlink-tx": 20_000, "nvlink-rx": 20_000, "nvlink-crc": 500, "nvlink-replay": 60,
    "nvlink-recovery": 20, "ecc-correctable": 300,
}  # fmt: skip
STAND, END = 3, 4
PLAIN = FleetSettings(ticks_to_stand=STAND, ticks_to_end=END, fast_half_life_s=30, slow_half_life_s=1800)


class World:
    """`nodes` nodes of `gpus` GPUs that all say what is usual, save where a test says otherwise."""

    def __init__(self, nodes: int = 4, gpus: int = 8, how: FleetSettings = PLAIN, skus: int = 1) -> None:
        self.view = FleetView(nodes * 8 + 8, how)
        self.rows = {
            (node, gpu): self.view.row(f"n{node}", gpu, f"sku{node % skus}")
            for node in range(nodes)
            for gpu in range(gpus)
        }
        self.now = 1e9
        self.values: dict[tuple[int, int], dict[str, float]] = {
            key: {name: float(usual) for name, usual in USUAL.items()} for key in self.rows
        }

    def say(self, key: tuple[int, int], **values: float) -> None:
        """From now on this GPU says this."""
        self.values[key] |= {name.replace("_", "-"): value for name, value in values.items()}

    def run(self, ticks: int = 1, silent: tuple[tuple[int, int], ...] = (), every: float = 30) -> list[Outlier]:
        """So many ticks with a sample of everyone but the silent; what stands then."""
        found: list[Outlier] = []
        for _ in range(ticks):
            self.now += every
            keys = [key for key in self.rows if key not in silent]
            matrix = [[self.values[key][metric.name] for metric in METRICS] for key in keys]
            self.view.update([self.rows[key] for key in keys], matrix, self.now)
            found = self.view.tick(self.now)
        return found


def named(found: list[Outlier], rule: Rule = Rule.PEERS) -> list[tuple[str, int, str]]:
    return [(one.node_id, one.gpu, one.metric) for one in found if one.rule is rule]


def test_there_are_twenty_columns_and_each_can_be_judged() -> None:
    assert len(METRICS) == 20
    assert len(INDEX) == 20
    assert set(USUAL) == set(INDEX)
    assert set(BAD) == {metric.name for metric in METRICS if metric.judged}
    assert all(metric.floor > 0 and 0 <= metric.share < 1 and metric.least < metric.most for metric in METRICS)


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_gpu_worse_than_siblings_and_sku_is_an_outlier(name: str) -> None:
    world = World()
    world.say((2, 5), **{name.replace("-", "_"): BAD[name]})
    (one,) = [one for one in world.run(12) if one.rule is Rule.PEERS]
    assert (one.node_id, one.gpu, one.metric) == ("n2", 5, name)
    assert one.value == pytest.approx(BAD[name])
    assert one.sibling_median == one.sku_median == pytest.approx(USUAL[name])
    assert one.z >= PLAIN.z_peers
    assert one.since == 1e9 + 30


@pytest.mark.parametrize("name", sorted(BAD))
def test_better_than_the_others_is_no_fault(name: str) -> None:
    world = World()
    for key in world.rows:
        world.say(key, **{name.replace("-", "_"): BAD[name]})
    world.say((2, 5), **{name.replace("-", "_"): USUAL[name]})
    assert named(world.run(12)) == []


@pytest.mark.parametrize("name", sorted(BAD))
def test_less_than_what_matters_is_no_fault(name: str) -> None:
    world = World()
    metric = METRICS[INDEX[name]]
    matters = max(metric.floor, metric.share * USUAL[name])
    world.say((2, 5), **{name.replace("-", "_"): USUAL[name] + 0.98 * metric.sign * matters})
    assert named(world.run(12)) == []
    world.say((2, 5), **{name.replace("-", "_"): USUAL[name] + 1.02 * metric.sign * matters})
    assert named(world.run(30)) == [("n2", 5, name)]


def test_it_takes_so_many_ticks_to_stand_and_so_many_to_end() -> None:
    world = World(how=FleetSettings(ticks_to_stand=3, ticks_to_end=4, fast_half_life_s=0.1))
    world.run(5)
    world.say((1, 1), sm_clock=1200)
    assert named(world.run(2)) == []
    started = world.now - 30
    found = [one for one in world.run() if one.rule is Rule.PEERS]
    assert [one.since for one in found] == [started]
    world.say((1, 1), sm_clock=1755)
    assert len(named(world.run(3))) == 1
    assert named(world.run()) == []


def test_a_deviation_that_comes_and_goes_never_stands() -> None:
    world = World(how=FleetSettings(ticks_to_stand=3, ticks_to_end=4, fast_half_life_s=0.1))
    for _ in range(6):
        world.say((1, 1), sm_clock=1200)
        assert named(world.run(2)) == []
        world.say((1, 1), sm_clock=1755)
        assert named(world.run(1)) == []


def test_an_end_begins_anew_when_the_deviation_returns() -> None:
    world = World(how=FleetSettings(ticks_to_stand=3, ticks_to_end=4, fast_half_life_s=0.1))
    world.say((1, 1), sm_clock=1200)
    (first,) = [one for one in world.run(4) if one.rule is Rule.PEERS]
    for _ in range(4):
        world.say((1, 1), sm_clock=1755)
        world.run(3)
        world.say((1, 1), sm_clock=1200)
        (still,) = [one for one in world.run(1) if one.rule is Rule.PEERS]
        assert still.since == first.since


def test_a_node_that_is_slow_as_a_whole_is_no_outlier_unless_its_siblings_are_few() -> None:
    world = World(nodes=20)
    for gpu in range(8):
        world.say((3, gpu), sm_clock=1200)
    assert named(world.run(12)) == []
    few = World(nodes=20, gpus=4)
    for gpu in range(4):
        few.say((3, gpu), sm_clock=1200)
    found = [one for one in few.run(12) if one.rule is Rule.PEERS]
    assert named(found) == [("n3", gpu, "sm-clock") for gpu in range(4)]
    assert {one.sibling_median for one in found} == {None}


def test_three_of_eight_siblings_are_outliers_and_five_are_the_load() -> None:
    for slow, expected in ((3, 3), (5, 0)):
        world = World(nodes=20)
        for gpu in range(slow):
            world.say((3, gpu), sm_clock=1200)
        assert len(named(world.run(12))) == expected


def test_a_rollout_that_slows_a_third_of_a_sku_blames_nobody() -> None:
    for nodes, expected in ((4, 4), (7, 0)):
        world = World(nodes=20, gpus=1)
        for node in range(nodes):
            world.say((node, 0), sm_clock=1200)
        assert len(named(world.run(12))) == expected


def test_one_skus_figures_are_not_the_others() -> None:
    world = World(nodes=20, gpus=1, skus=2)
    for node in range(1, 20, 2):
        world.say((node, 0), sm_clock=1200)
    world.say((5, 0), sm_clock=700)
    found = [one for one in world.run(12) if one.rule is Rule.PEERS]
    assert named(found) == [("n5", 0, "sm-clock")]
    assert found[0].sku_median == 1200


@pytest.mark.parametrize(("gpus", "expected"), [(8, 0), (9, 1)])
def test_fewer_than_eight_peers_give_no_verdict(gpus: int, expected: int) -> None:
    world = World(nodes=gpus, gpus=1)
    world.say((0, 0), sm_clock=1200)
    assert len(named(world.run(12))) == expected


def test_siblings_alone_suffice_where_the_setting_says_so() -> None:
    """One node is no SKU of nine, so only its siblings can say."""
    for against, expected in ((Against.BOTH, []), (Against.SIBLINGS, [("n0", 3, "sm-clock")])):
        how = FleetSettings(against=against, ticks_to_stand=STAND, fast_half_life_s=30)
        world = World(nodes=1, how=how)
        world.say((0, 3), sm_clock=1200)
        assert named(world.run(12)) == expected


def test_a_gpu_within_the_spread_of_its_sku_needs_more_than_its_siblings() -> None:
    """The SKU runs anywhere from 1000 to 1900 MHz, so a GPU at 1400 among siblings at 1750 is one of many."""
    for against, expected in ((Against.BOTH, 0), (Against.SIBLINGS, 1)):
        how = FleetSettings(against=against, ticks_to_stand=STAND, fast_half_life_s=30)
        world = World(nodes=10, how=how)
        for (node, _gpu), said in world.values.items():
            said["sm-clock"] = 1000 + 100 * node
        world.say((9, 0), sm_clock=1400)
        assert len(named(world.run(12))) == expected


def test_only_gpus_at_load_are_compared() -> None:
    world = World()
    world.say((0, 0), sm_clock=345, power=90, utilisation=0)
    assert named(world.run(12)) == []
    world.say((0, 0), utilisation=79)
    assert named(world.run(12)) == []
    world.say((0, 0), utilisation=81)
    assert named(world.run(20)) == [("n0", 0, "power"), ("n0", 0, "sm-clock")]


def test_errors_count_at_any_load() -> None:
    world = World()
    for key in world.rows:
        world.say(key, utilisation=0)
    world.say((0, 0), pcie_replay=100)
    assert named(world.run(12)) == [("n0", 0, "pcie-replay")]


def test_a_stale_row_is_compared_with_nobody_and_what_stands_against_it_stays() -> None:
    world = World()
    world.say((0, 0), sm_clock=1200)
    (stands,) = [one for one in world.run(8) if one.rule is Rule.PEERS]
    silent = ((0, 0),)
    assert named(world.run(20, silent)) == named([stands])
    world.say((0, 0), sm_clock=1755)
    assert named(world.run(20)) == []


def test_stale_rows_are_nobodys_peers() -> None:
    world = World(nodes=9, gpus=1)
    world.run(3)
    world.say((0, 0), sm_clock=1200)
    assert named(world.run(12, silent=((1, 0),))) == [], "eight are left"


def test_a_tick_without_a_new_sample_is_no_evidence() -> None:
    world = World(how=FleetSettings(ticks_to_stand=5, fast_half_life_s=0.1))
    world.say((0, 0), sm_clock=1200)
    world.run(2)
    for _ in range(10):
        world.now += 1
        assert named(world.view.tick(world.now)) == []
    assert len(named(world.run(3))) == 1


def test_a_figure_that_is_no_longer_said_is_not_compared() -> None:
    world = World()
    world.say((0, 0), sm_clock=1200)
    world.run(2)
    world.say((0, 0), sm_clock=float("nan"))
    assert named(world.run(20)) == []


def test_a_gpu_that_no_longer_says_a_figure_is_nobodys_peer_in_it() -> None:
    world = World(nodes=9, gpus=1)
    world.run(3)
    world.say((1, 0), sm_clock=float("nan"))
    world.say((0, 0), sm_clock=1200)
    assert named(world.run(12)) == [], "eight are left"


def test_a_tick_without_a_sample_teaches_nothing() -> None:
    world = World()
    world.run(3)
    for _ in range(30):
        world.now += 1
        world.view.tick(world.now)
    world.say((0, 0), ecc_correctable=400)
    assert named(world.run(4), Rule.HISTORY) == [], "seven samples are no history"


@pytest.mark.parametrize("blank", [2147483632.0, 140737488355328.0, float("inf"), float("-inf"), -1.0, 1e38])
def test_what_cannot_be_a_reading_is_not_said(blank: float) -> None:
    world = World()
    world.say((0, 0), **{name.replace("-", "_"): blank for name in BAD if METRICS[INDEX[name]].least == 0})
    world.say((1, 1), sm_clock=1200)
    assert named(world.run(12)) == [("n1", 1, "sm-clock")]


def test_a_gpu_that_gets_worse_than_it_was() -> None:
    world = World()
    for number in range(60):
        for key in world.rows:
            world.say(key, ecc_correctable=5 + number % 3)
        assert named(world.run(), Rule.HISTORY) == []
    world.say((0, 0), ecc_correctable=40)
    assert named(world.run(STAND - 1), Rule.HISTORY) == []
    (one,) = [one for one in world.run() if one.rule is Rule.HISTORY]
    assert (one.node_id, one.gpu, one.metric, one.value) == ("n0", 0, "ecc-correctable", 40)
    assert one.z >= PLAIN.z_history
    assert one.since == world.now - 60
    world.say((0, 0), ecc_correctable=6)
    assert named(world.run(END), Rule.HISTORY) == []


def test_history_z_is_what_the_definition_says() -> None:
    """Against the definition in float64: weights by age, the deviation from before the sample."""
    world = World(nodes=2, how=replace(PLAIN, ticks_to_stand=1))
    rng = np.random.default_rng(3)
    seen: list[float] = []
    times: list[float] = []
    for _ in range(80):
        value = float(rng.normal(640, 12))
        world.say((0, 0), power=value)
        world.run(every=float(rng.choice([15, 30, 60])))
        seen.append(value)
        times.append(world.now)
    weights = 0.5 ** ((times[-1] - np.array(times)) / PLAIN.slow_half_life_s)
    mean = np.average(seen, weights=weights)
    variance = np.average((np.array(seen) - mean) ** 2, weights=weights)
    world.say((0, 0), power=300)
    (one,) = [one for one in world.run() if one.rule is Rule.HISTORY]
    assert one.z == pytest.approx((mean - 300) / np.sqrt(variance), rel=1e-3)


def test_a_new_level_is_the_usual_one_after_a_while() -> None:
    world = World()
    world.run(80)
    world.say((0, 0), ecc_correctable=40)
    lasted = 0
    while named(world.run(), Rule.HISTORY) or lasted < STAND:
        lasted += 1
        assert lasted < 300
    assert lasted >= 8, "one bad sample does not excuse the next"


def test_a_history_is_learnt_first() -> None:
    world = World()
    world.run(5)
    world.say((0, 0), ecc_correctable=400)
    assert named(world.run(6), Rule.HISTORY) == [], "eleven samples are no history"


def test_most_siblings_at_once_are_the_load_and_much_of_a_sku_a_rollout() -> None:
    for struck, expected in (([(0, 0)], 1), ([(0, gpu) for gpu in range(5)], 0), ([(n, 0) for n in range(6)], 0)):
        world = World(nodes=6 if len(struck) != 6 else 20, gpus=8 if len(struck) != 6 else 1)
        world.run(40)
        for key in struck:
            world.say(key, ecc_correctable=400)
        assert len(named(world.run(4), Rule.HISTORY)) == expected


def test_a_figure_that_was_not_said_for_a_while_keeps_its_history() -> None:
    world = World()
    world.run(40)
    world.say((0, 0), ecc_correctable=float("nan"))
    world.run(2)
    world.say((0, 0), ecc_correctable=400)
    assert named(world.run(4), Rule.HISTORY) == [("n0", 0, "ecc-correctable")]


def test_a_gap_in_load_is_no_change_of_history() -> None:
    world = World()
    world.run(40)
    for key in world.rows:
        world.say(key, utilisation=0, sm_clock=345, power=90, temperature=30)
    world.run(30)
    for key in world.rows:
        world.say(key, utilisation=99, sm_clock=1755, power=640, temperature=60)
    assert world.run(10) == []


def test_a_limit_holds_even_when_everyone_is_beyond_it() -> None:
    world = World()
    for key in world.rows:
        world.say(key, memory_temperature=95)
    assert len(named(world.run(STAND), Rule.LIMIT)) == len(world.rows)
    near = World()
    for key in near.rows:
        near.say(key, memory_temperature=94)
    assert near.run(12) == []


def test_a_margin_at_nothing_is_beyond_its_limit() -> None:
    world = World()
    world.say((0, 0), temperature_margin=0)
    (one,) = [one for one in world.run(STAND) if one.rule is Rule.LIMIT]
    assert (one.value, one.z, one.since) == (0, 0, 1e9 + 30)


def test_late_and_repeated_samples_are_dropped_and_the_newest_said_counts() -> None:
    view = FleetView(8)
    row = view.row("n", 0, "x")
    sample = np.full((1, 20), 5.0)
    assert view.update([row], sample, 100.0) == 1
    assert view.update([row], sample, 100.0) == 0
    assert view.update([row], sample, 99.0) == 0
    part = np.full((1, 20), np.nan)
    part[0, INDEX["temperature"]] = 7
    assert view.update([row], part, 101.0) == 1
    assert view._stage[INDEX["temperature"], row] == 7
    assert view._stage[INDEX["pcie-replay"], row] == 5, "what was said before stays said until the tick"


def test_a_sample_from_the_future_does_not_keep_a_row_fresh() -> None:
    world = World()
    world.say((0, 0), sm_clock=1200)
    matrix = [[world.values[0, 0][metric.name] for metric in METRICS]]
    world.view.update([world.rows[0, 0]], matrix, world.now + 1e6)
    world.run(12, silent=((0, 0),))
    assert world.view._at[world.rows[0, 0]] <= world.now - 11 * 30


def test_a_sku_that_changed_and_a_node_that_left_start_anew() -> None:
    world = World()
    world.say((0, 0), sm_clock=1200)
    assert len(named(world.run(8))) == 1
    assert world.view.row("n0", 0, "sku0") == world.rows[0, 0]
    assert len(world.view.standing()) >= 1
    assert world.view.row("n0", 0, "another") == world.rows[0, 0]
    assert named(world.view.standing()) == []
    world.view.row("n0", 0, "sku0")
    assert len(named(world.run(8))) == 1
    world.view.retire("n0")
    world.view.retire("n0")
    assert world.view.standing() == []
    with pytest.raises(ValueError, match="nobody's"):
        world.view.update([world.rows[0, 0]], np.zeros((1, 20)), world.now + 1)
    assert world.view.row("new", 0, "sku0") % (world.view._groups) == world.rows[0, 0] % world.view._groups


def test_sixteen_gpus_are_two_boards() -> None:
    view = FleetView(32)
    rows = [view.row("n", gpu, "x") for gpu in range(16)]
    assert len(set(rows)) == 16
    assert len({row % view._groups for row in rows}) == 2


def test_wrong_use_is_said() -> None:
    view = FleetView(8)
    row = view.row("n", 0, "x")
    with pytest.raises(ValueError, match="20"):
        view.update([row], np.zeros((1, 19)), 1.0)
    with pytest.raises(ValueError, match="nobody's"):
        view.update([7], np.zeros((1, 20)), 1.0)
    with pytest.raises(ValueError, match="nobody's"):
        view.update([-1], np.zeros((1, 20)), 1.0)
    with pytest.raises(ValueError, match="full"):
        view.row("m", 0, "x")
    with pytest.raises(ValueError, match="index"):
        view.row("n", -1, "x")
    with pytest.raises(ValueError):
        FleetView(0)
    assert view.update([], np.zeros((0, 20)), 1.0) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"crowd": 0.5}, {"ticks_to_stand": 0}, {"ticks_to_end": 201}, {"z_peers": 0}, {"fast_half_life_s": 7200.0},
     {"least_siblings": 8}, {"least_peers": 2}, {"stale_after_s": 0}],
)  # fmt: skip
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(FleetSettings(), **wrong)


# What holds for any fleet ---------------------------------------------------------------------------------------------

FLEETS = st.builds(
    lambda seed, nodes, holes, bad: (seed, nodes, holes, bad),
    st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0, 0.4), st.integers(0, 6),
)  # fmt: skip
QUICK = FleetSettings(ticks_to_stand=2, fast_half_life_s=1)


def samples(seed: int, nodes: int, holes: float, bad: int) -> np.ndarray:
    """[GPU, metric] with noise, holes and a few bad figures."""
    rng = np.random.default_rng(seed)
    usual = np.array([USUAL[metric.name] for metric in METRICS], np.float32)
    found = np.tile(usual, (nodes * 8, 1)) + rng.random((nodes * 8, 20))
    found[:, INDEX["utilisation"]] = 99
    names = sorted(BAD)
    for _ in range(bad):
        name = names[rng.integers(len(names))]
        found[rng.integers(len(found)), INDEX[name]] = BAD[name]
    found[rng.random(found.shape) < holes] = np.nan
    return found.astype(np.float32)


def judged(found: np.ndarray, order: np.ndarray, how: FleetSettings = QUICK) -> set[tuple[int, str]]:
    """Outliers as (position in `found`, metric), the nodes having been entered in `order`."""
    nodes = len(found) // 8
    view = FleetView(len(found), how)
    rows = np.zeros(len(found), int)
    for node in order:
        for gpu in range(8):
            rows[node * 8 + gpu] = view.row(str(node), gpu, f"sku{node % 2}" if nodes > 6 else "sku")
    for number in range(3):
        view.update(rows, found, 1e9 + number * 30)
        view.tick(1e9 + number * 30)
    return {(int(one.node_id) * 8 + one.gpu, one.metric) for one in view.standing() if one.rule is Rule.PEERS}


@settings(max_examples=60, deadline=None)
@given(FLEETS, st.sampled_from(Against))
def test_the_order_of_rows_does_not_matter(fleet: tuple[int, int, float, int], against: Against) -> None:
    found = samples(*fleet)
    how = FleetSettings(ticks_to_stand=2, fast_half_life_s=1, against=against)
    order = np.random.default_rng(fleet[0] + 1).permutation(len(found) // 8)
    assert judged(found, np.arange(len(order)), how) == judged(found, order, how)


@settings(max_examples=60, deadline=None)
@given(FLEETS)
def test_what_is_not_said_is_no_outlier(fleet: tuple[int, int, float, int]) -> None:
    found = samples(*fleet)
    for position, metric in judged(found, np.arange(len(found) // 8)):
        assert not np.isnan(found[position, INDEX[metric]])
        if METRICS[INDEX[metric]].at_load:
            assert found[position, INDEX["utilisation"]] >= 80


@settings(max_examples=60, deadline=None)
@given(FLEETS, st.sampled_from([metric for metric in METRICS if metric.judged]), st.floats(0, 5))
def test_what_all_share_makes_nobody_an_outlier(
    fleet: tuple[int, int, float, int], metric: Metric, times: float
) -> None:
    seed, nodes, holes, _ = fleet
    found = samples(seed, nodes, holes, 0)
    column = METRICS.index(metric)
    found[:, column] += times * (max(BAD.get(METRICS[column].name, 0), 100))
    assert judged(found, np.arange(nodes)) == set()


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([1, 3, 40]), st.sampled_from([1, -1])
)
def test_the_worst_of_a_group_tells_whether_any_deviates(seed: int, holes: float, grain: int, sign: int) -> None:
    """The shortcut against every GPU measured by itself with the library's medians."""
    from ostler.health import fleet_peers

    rng = np.random.default_rng(seed)
    values = sign * rng.integers(10, 10 + grain, (8, 30)).astype(np.float32) * np.float32(3)
    values[rng.integers(0, 8, 30), np.arange(30)] += rng.choice([0, 5, 30, 200], 30)
    values[rng.random(values.shape) < holes] = np.nan
    yardstick = fleet_peers.Yardstick(6, 4, 0.1)
    expected = set()
    for group in range(30):
        for slot in range(8):
            others = np.delete(values[:, group], slot)
            others = others[~np.isnan(others)]
            if len(others) < 4 or np.isnan(values[slot, group]):
                continue
            middle = np.median(others)
            scale = max(1.4826 * np.median(np.abs(others - middle)), max(4, 0.1 * abs(middle)) / 6)
            if (values[slot, group] - middle) / scale >= 6 * (1 + 1e-5):
                expected.add(group)
    found = set(fleet_peers.groups_with_an_outlier(values, yardstick, 4).tolist())
    assert expected <= found
    assert all(np.count_nonzero(~np.isnan(values[:, group])) > 4 for group in found)

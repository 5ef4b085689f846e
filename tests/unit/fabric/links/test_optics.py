"""Modules and bit error rates, both sides of each limit."""

from __future__ import annotations

import pytest

from ostler.fabric.sweep import Ber, Module
from tests.unit.fabric.links.scene import HOST, LEAF, kinds, look, troubles

EEPROM = (-5.0, 75.0)
RX = (-10.41, 6.0)


@pytest.mark.parametrize(
    ("celsius", "bounds", "said"),
    [
        (70.0, None, []),
        (70.1, None, [("hot", True)]),
        (75.0, EEPROM, [("hot", True)]),
        (60.0, EEPROM, []),
        (60.1, (-5.0, 60.0), [("hot", True)]),
        (-5.1, EEPROM, [("hot", True)]),
        (None, EEPROM, []),
    ],
)
def test_temperature(celsius: float | None, bounds: tuple[float, float] | None, said: list[tuple[str, bool]]) -> None:
    module = Module(temperature_c=celsius, temperature_limits_c=bounds)
    assert kinds(look(modules={LEAF: module})) == said


@pytest.mark.parametrize(
    ("rise", "seconds", "said"),
    [
        (10.0, 300, []),
        (10.1, 300, [("hot", False)]),
        (10.1, 100, [("hot", False)]),
        (10.1, 310, []),
        (20.1, 600, [("hot", False)]),  # in one of both halves it rose by more than 10
        (20.0, 600, []),
        (5.0, 100, []),
    ],
)
def test_a_rise(rise: float, seconds: float, said: list[tuple[str, bool]]) -> None:
    before, after = Module(serial="A", temperature_c=30.0), Module(serial="A", temperature_c=30.0 + rise)
    assert kinds(look(seconds, modules={LEAF: after}), look(0, modules={LEAF: before})) == said
    other = Module(serial="B", temperature_c=30.0)
    assert kinds(look(seconds, modules={LEAF: after}), look(0, modules={LEAF: other})) == []


@pytest.mark.parametrize(
    ("lanes", "said"),
    [
        ((-1.0, -1.0, -1.0, -3.0), []),
        ((-1.0, -1.0, -1.0, -3.1), [("rx-power", False)]),
        ((-9.41, -9.0), []),
        ((-9.42, -9.0), [("rx-power", False)]),
        ((-10.41, -10.0), [("rx-power", False)]),
        ((-10.42, -10.0), [("rx-power", True)]),
        ((5.0, 5.0), []),
        ((5.1, 5.0), [("rx-power", False)]),
        ((6.1, 5.0), [("rx-power", True)]),
        ((-40.0, -1.0), [("rx-power", True)]),
        ((), []),
    ],
)
def test_received_power(lanes: tuple[float, ...], said: list[tuple[str, bool]]) -> None:
    module = Module(rx_power_dbm=lanes, rx_limits_dbm=RX)
    assert kinds(look(modules={LEAF: module})) == said
    assert kinds(look(modules={LEAF: module}, down=True)) == [], "no light is no wonder without a link"


def test_uneven_lanes_with_bit_errors_are_severe() -> None:
    module = {LEAF: Module(rx_power_dbm=(-1.0, -4.0))}
    assert kinds(look(modules=module)) == [("rx-power", False)]
    (one,) = troubles(look(modules=module, bers={LEAF: Ber(raw=2e-5)}))
    assert (str(one.kind), one.severe) == ("rx-power", True)
    assert [sign["kind"] for sign in one.measured["also"]] == ["ber"], "one trouble for one cause"


def test_which_end_the_light_points_to() -> None:
    dim = Module(rx_power_dbm=(-12.0, -12.0), rx_limits_dbm=RX)
    (one,) = troubles(look(modules={LEAF: dim}))
    assert (one.port, one.peer) == (HOST, LEAF) and "which sends" in one.message
    (two,) = troubles(look(modules={LEAF: dim, HOST: Module(tx_power_dbm=(-2.9, -2.9))}))
    assert (two.port, two.peer) == (LEAF, HOST) and "sends well" in two.message
    (three,) = troubles(look(modules={LEAF: dim, HOST: Module(tx_power_dbm=(-3.0, -2.9))}))
    assert three.port == HOST


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (Ber(raw=1e-5, effective=1e-13, symbol=1e-13), []),
        (Ber(raw=1.1e-5), [("ber", True)]),
        (Ber(effective=1.1e-13), [("ber", True)]),
        (Ber(symbol=1.1e-13), [("ber", True)]),
        (Ber(raw=0.0, effective=0.0, symbol=0.0), []),
        (Ber(effective=1e-11, effective_errors=2), []),  # two errors prove nothing
        (Ber(effective=1.5e-13, effective_errors=10), []),  # ten prove 0.81e-13
        (Ber(effective=1.5e-13, effective_errors=100), [("ber", True)]),  # a hundred 1.26e-13
        (Ber(raw_lanes=(1e-8, 1e-8, 1e-7, 1e-8)), []),
        (Ber(raw_lanes=(1e-8, 1e-8, 1.1e-7, 1e-8)), [("ber", False)]),
        (Ber(raw_lanes=(0.0, 0.0, 1e-9, 0.0)), []),  # too few for a ratio
        (Ber(), []),
    ],
)
def test_bit_error_rates(rates: Ber, said: list[tuple[str, bool]]) -> None:
    assert kinds(look(bers={LEAF: rates})) == said
    assert kinds(look(bers={LEAF: rates}, down=True)) == []


def test_the_eeproms_alarm_names_the_cause_before_all() -> None:
    after = look(
        720,
        {LEAF: {"symbol_error": 50, "link_downed": 9}},
        modules={LEAF: Module(temperature_c=76.0, temperature_limits_c=EEPROM, rx_power_dbm=(-1.0, -4.0))},
        bers={LEAF: Ber(raw=2e-5)},
    )
    (one,) = troubles(after, look(0))
    assert (str(one.kind), one.port, one.severe) == ("hot", LEAF, True)
    assert [sign["kind"] for sign in one.measured["also"]] == ["rx-power", "ber", "symbol-errors", "flapping"]

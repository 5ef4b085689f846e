"""mlxlink --json: whose document it is, and its texts as numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from ostler.core.errors import BadInput
from ostler.fabric.formats.bind import bind
from ostler.fabric.formats.mlxlink import looks_like, read
from ostler.fabric.sweep import End, Module, Node, NodeKind, PortFacts, Sweep
from tests.unit.fabric.formats.hostile import spoiled
from tests.unit.fabric.formats.outputs import HCA, LEAF, MLXLINK, MLXLINK_ONE, bearable

TOPOLOGY = Sweep(
    "ibnetdiscover",
    "fabric",
    nodes={LEAF: Node(LEAF, NodeKind.SWITCH, "leaf01"), HCA: Node(HCA, NodeKind.HCA, "gpu-0001 mlx5_0")},
    ports={End(LEAF, 7): PortFacts(End(HCA, 1), lid=10), End(HCA, 1): PortFacts(End(LEAF, 7), lid=2)},
)


def port_of(data: object, name: str = "all.json") -> Sweep:
    return bind(read(json.dumps(data).encode(), name), TOPOLOGY)


def test_a_module_with_light() -> None:
    module = bind(read(MLXLINK, "all.json"), TOPOLOGY).modules[End(HCA, 1)]
    assert module == Module(
        "NVIDIA", "MMA4Z00-NS", "MT2345", "Optical Module (separated)", 50.0, "46.120.10001", 45.0, (-10.0, 75.0),
        (-1.3, -1.1, -0.9, -1.2), (-10.41, 6.0), (1.5, 1.4, 1.4, 1.7),
    )  # fmt: skip


def test_rates_and_what_they_were_counted_from() -> None:
    sweep = bind(read(MLXLINK, "all.json"), TOPOLOGY)
    rates = sweep.bers[End(HCA, 1)]
    assert (rates.raw, rates.effective, rates.symbol) == (3e-7, 2e-15, 0.0), "15E-255 is no error"
    assert rates.raw_lanes == (1e-7, 2e-7, 3e-7, 4e-7)
    assert (rates.effective_errors, rates.symbol_errors, rates.seconds) == (12, 3, 25074.8 * 60)
    assert sweep.counters[End(HCA, 1)] == {"link_downed": 4, "link_error_recovery": 1}
    assert (sweep.ports[End(HCA, 1)].speed, sweep.ports[End(HCA, 1)].width) == ("NDR", 4)


@pytest.mark.parametrize(
    ("key", "end"),
    [
        ("gpu-0001/mlx5_0", End(HCA, 1)),
        ("gpu-0001/mlx5_0/2", End(HCA, 2)),
        (f"{LEAF:#x}/7", End(LEAF, 7)),
        ("lid-10/7", End(LEAF, 7)),
        ("/dev/mst/SW_MT54002_leaf01_lid-0x000A/7", End(LEAF, 7)),
    ],
)
def test_what_names_the_port(key: str, end: End) -> None:
    assert set(port_of({key: MLXLINK_ONE}).modules) == {end}
    assert set(port_of([{"key": key, **MLXLINK_ONE}]).modules) == {end}


def test_a_single_document_is_named_by_its_file() -> None:
    assert set(port_of(MLXLINK_ONE, "/tmp/gpu-0001.mlx5_0.json").modules) == {End(HCA, 1)}
    assert set(port_of(MLXLINK_ONE, "gpu-0001_mlx5_0.json").modules) == {End(HCA, 1)}
    sweep = port_of(MLXLINK_ONE, "out.json")
    assert not sweep.modules and "names no port" in sweep.problems[0].message


def test_copper_has_no_light_and_no_temperature() -> None:
    copper = {
        "Temperature [C]": "0 [0..0]", "Rx Power Current [dBm]": "0,0,0,0 [0..0]", "Cable Type": "Passive copper cable",
        "Tx Power Current [dBm]": "0,0,0,0 [0..0]", "Vendor Name": "FS", "FW Version": "N/A", "Wavelength [nm]": "N/A",
    }  # fmt: skip
    one = {"result": {"output": {"Module Info": copper}}}
    assert port_of({"gpu-0001/mlx5_0": one}).modules[End(HCA, 1)] == Module(vendor="FS", kind="Passive copper cable")


@pytest.mark.parametrize(
    ("kind", "light"), [("Passive copper cable", "-1.0,-1.0 [-10..6]"), ("Active optical", "0,0,0,0 [0..0]")]
)
def test_each_sign_of_no_light_is_enough(kind: str, light: str) -> None:
    one = {"result": {"output": {"Module Info": {"Cable Type": kind, "Rx Power Current [dBm]": light}}}}
    assert port_of({"gpu-0001/mlx5_0": one}).modules[End(HCA, 1)] == Module(kind=kind)


def test_a_dark_lane_is_minus_forty() -> None:
    info = {"Rx Power Current [dBm]": "-1.3,-40,-inf,-1.2 [-10..6]", "Cable Type": "Active optical"}
    module = port_of({"gpu-0001/mlx5_0": {"result": {"output": {"Module Info": info}}}}).modules[End(HCA, 1)]
    assert module.rx_power_dbm == (-1.3, -40.0, -1.2)


def test_one_that_failed_beside_one_that_did_not() -> None:
    failed = {"status": {"code": 1, "message": "No MTUSB-1 device"}, "result": {"output": {}}}
    sweep = port_of({"gpu-0001/mlx5_0": MLXLINK_ONE, "gpu-0002/mlx5_0": failed})
    assert len(sweep.modules) == 1 and "No MTUSB-1 device" in sweep.problems[0].message
    with pytest.raises(BadInput, match=r"^x:1: Not one document"):
        read(json.dumps(failed).encode(), "x")


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000, b"9" * 10_000, b"[]", b"null", b'{"a": {"b": 1}}'])
def test_what_is_no_document_is_refused_with_its_place(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"^x:1: "):
        read(data, "x")
    assert looks_like(MLXLINK) and not looks_like(data)


@given(spoiled(MLXLINK))
def test_hostile_files(data: bytes) -> None:
    sweep = bearable(read, data)
    if sweep is not None:
        bind(sweep, TOPOLOGY)

"""What a NodeDescription says, and what it must not be believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.fabric.places.naming import prefix, read, shown, without_domain
from ostler.fabric.sweep import NodeKind

HCA, SWITCH = NodeKind.HCA, NodeKind.SWITCH


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("gpu0001 mlx5_0", HCA, ("gpu0001", "mlx5_0", "")),
        ("gpu0001 HCA-1", HCA, ("gpu0001", "HCA-1", "")),
        ("gpu0001 mlx4_0", HCA, ("gpu0001", "mlx4_0", "")),
        ("RMD701091901003 ibp11s0f0", HCA, ("RMD701091901003", "ibp11s0f0", "")),
        ("selene-cache-02 mlx5_1 ", HCA, ("selene-cache-02", "mlx5_1", "")),
        ("gpu0001.example.org mlx5_0", HCA, ("gpu0001.example.org", "mlx5_0", "")),
        ("MF0;leaf01:MQM9700/U1", SWITCH, ("leaf01", "U1", "MQM9700")),
        ("MF0;core1:CS7500/L11/U1", SWITCH, ("core1", "L11/U1", "CS7500")),
        ("MF0;rmd70-0101-0908-01ib1-A:MCS8500/S01/U1", SWITCH, ("rmd70-0101-0908-01ib1-A", "S01/U1", "MCS8500")),
        ("MF0;mamba:Q3400_RA/U3", SWITCH, ("mamba", "U3", "Q3400_RA")),
        ("leaf01", SWITCH, ("leaf01", "U1", "")),
        ("5FB0405-leaf-IB01 ", SWITCH, ("5FB0405-leaf-IB01", "U1", "")),
    ],
)
def test_names(text: str, kind: NodeKind, said: tuple[str, str, str]) -> None:
    assert read(text, kind)[:3] == said


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", HCA), ("   ", SWITCH), ("SwitchIB Mellanox Technologies", SWITCH), ("Infiniscale-IV Mellanox Technologies", SWITCH),
        ("Quantum Mellanox Technologies", SWITCH), ("MT4129 ConnectX7   Mellanox Technologies", HCA), ("ubuntu mlx5_0", HCA),
        ("localhost mlx5_0", HCA), ("localhost.localdomain HCA-1", HCA), ("(none) mlx5_0", HCA), ("gpu0001", HCA),
        ("gpu\x0001 mlx5_0", HCA), ("gpu0001\u202e mlx5_0", HCA), ("x" * 10_000 + " mlx5_0", HCA), (";;;", SWITCH), (";;;", HCA),
        ("MF0;:MQM9700/U1", SWITCH), ("MF0;a;b:MQM9700/U1", SWITCH), ("MF0;leaf 01:MQM9700/U1", SWITCH),
        ("MF0;leaf01:MQM9700/../U1", SWITCH), ("0x98039b0300a1b2c3", SWITCH), ("0x98039b0300a1b2c3 mlx5_0", HCA),
        ("gpu0001 mlx5_0 extra", HCA), ("gpu0001 ../../etc", HCA),
    ],
)  # fmt: skip
def test_names_that_say_nothing(text: str, kind: NodeKind) -> None:
    named = read(text, kind)
    assert named.chassis == "" and named.why and not named.internal


def test_the_aggregation_node_is_internal() -> None:
    assert read("Mellanox Technologies Aggregation Node", HCA).internal
    assert not read("Mellanox Technologies Aggregation Node", SWITCH).internal


@given(st.text(max_size=200), st.sampled_from(NodeKind))
def test_no_text_harms(text: str, kind: NodeKind) -> None:
    named = read(text, kind)
    assert (named.chassis + named.module + named.model).isprintable()
    assert len(named.chassis) <= 128 and not named.chassis.startswith("0x98039b0300a1b2c3")
    assert bool(named.chassis) != bool(named.why)
    assert shown(text).isascii() and len(shown(text)) < 700


def test_domains_and_modules() -> None:
    assert without_domain("gpu0001.example.org") == "gpu0001"
    assert without_domain("10.0.0.1") == "10.0.0.1"
    assert (prefix("U1"), prefix("U2"), prefix("L11/U1")) == ("", "U2", "L11/U1")

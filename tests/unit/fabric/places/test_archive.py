"""Snapshots as bytes, there and back, and bytes that are none."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Chassis, ChassisKind, Port, Snapshot
from ostler.fabric.places import archive
from ostler.fabric.places.archive import MAGIC, pack, unpack
from ostler.fabric.places.locate import locate
from ostler.fabric.sweep import Ber, End, Module, Physical, PortFacts, PortState, Problem, ProblemKind
from tests.unit.fabric.places.swept import guid_of, pull, sweep_of

HEAD = MAGIC + b"1\n"
TEXT = st.text(max_size=8)
PORTS = st.builds(Port, st.sampled_from("abc"), st.sampled_from(["1", "2", "mlx5_0", "\ud800", "L1/U1/3"]))
ENDS = st.builds(End, st.integers(0, 2**64 - 1), st.integers(0, 254))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FACTS = st.builds(
    PortFacts, st.none() | ENDS, st.sampled_from(PortState), st.sampled_from(Physical), st.integers(0, 12),
    st.sampled_from(["", "NDR"]), st.integers(0, 12), st.sampled_from(["", "XDR"]), st.integers(0, 65535),
)  # fmt: skip
MODULES = st.builds(
    Module, TEXT, TEXT, length_m=st.none() | FLOATS, temperature_limits_c=st.none() | st.tuples(FLOATS, FLOATS),
    rx_power_dbm=st.lists(FLOATS, max_size=4).map(tuple),
)  # fmt: skip
SNAPSHOTS = st.builds(
    Snapshot, TEXT, TEXT, st.none() | FLOATS, st.booleans(),
    st.dictionaries(st.sampled_from("abc"), st.just(0)).map(
        lambda names: {n: Chassis(n, ChassisKind.SWITCH, "M", [1, 2**64 - 1], n != "b") for n in names}),
    st.dictionaries(PORTS, PORTS), st.dictionaries(PORTS, FACTS), st.dictionaries(PORTS, ENDS),
    st.dictionaries(PORTS, st.dictionaries(TEXT, st.integers(0, 2**64))), st.dictionaries(PORTS, MODULES),
    st.dictionaries(PORTS, st.builds(Ber, raw=st.none() | FLOATS, symbol_errors=st.none() | st.integers())), TEXT,
    st.lists(st.builds(Problem, st.sampled_from(ProblemKind), TEXT, st.none() | st.integers(), st.none() | st.integers(), st.booleans())),
    st.dictionaries(PORTS, st.tuples(st.integers(), st.integers())), st.lists(TEXT),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(SNAPSHOTS)
def test_what_is_packed_comes_back(snapshot: Snapshot) -> None:
    packed = pack(snapshot)
    back = unpack(packed)
    assert back == snapshot
    assert pack(back) == packed


def test_equal_snapshots_give_equal_bytes() -> None:
    blueprint = fat_tree(8, 2, leaf_ports=16)
    sweep = sweep_of(blueprint)
    pull(sweep, End(guid_of(sweep, "gpu-0001 mlx5_0"), 1))
    seen, other = locate(sweep, blueprint), locate(sweep, blueprint)
    for name in ("links", "facts", "ends", "chassis"):
        setattr(other, name, dict(reversed(getattr(other, name).items())))
    assert pack(seen) == pack(other)
    assert len(pack(seen)) < 3000


def document() -> dict[str, Any]:
    seen = locate(sweep_of(fat_tree(2, 1, leaf_ports=4)))
    seen.counters = {port: {"symbol_error": 1} for port in seen.facts}
    seen.modules = {port: Module("NVIDIA", temperature_limits_c=(0.0, 70.0)) for port in seen.facts}
    body: dict[str, Any] = json.loads(zlib.decompress(pack(seen)[len(HEAD) :]))
    return body


def packed(body: object) -> bytes:
    return HEAD + zlib.compress(json.dumps(body).encode())


def test_the_document_itself_is_fine() -> None:
    assert unpack(packed(document())).facts


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 100, b"OSTLER-FABRIC", MAGIC + b"2\n" + zlib.compress(b"{}"), HEAD, HEAD + b"xx",
        HEAD + zlib.compress(b"{}")[:-3], HEAD + zlib.compress(b"{}") + b"more", packed({}), packed([]), packed(None),
        packed("[" * 50), HEAD + zlib.compress(b"[" * 200_000), HEAD + zlib.compress(b"\xff"),
        HEAD + zlib.compress(b"9" * 100_000), b"\x80\x04pickle", b"PK\x03\x04", MAGIC + b"\x1b[2J\xff\n",
    ],
)  # fmt: skip
def test_other_bytes_are_one_clear_line(data: bytes) -> None:
    with pytest.raises(BadInput) as raised:
        unpack(data)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 200


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that would be fine but for the millions of spaces behind it."""
    bomb = HEAD + zlib.compress(json.dumps(document()).encode() + b" " * 5_000_000)
    assert unpack(bomb).facts
    monkeypatch.setattr(archive, "LARGEST", 1_000_000)
    with pytest.raises(BadInput):
        unpack(bomb)


def test_what_stands_behind_a_snapshot_is_refused() -> None:
    with pytest.raises(BadInput):
        unpack(packed(document()) + b"more")


def test_numbers_below_zero_are_no_indices() -> None:
    """They would count from the end."""
    for key in ("port_chassis", "facts", "counter_ports", "counter_of"):
        body = document()
        body[key] = [-1, *(body[key] or range(len(body["port_names"])))[1:]]
        with pytest.raises(BadInput):
            unpack(packed(body))


def test_a_neighbour_without_a_link_comes_back() -> None:
    """Two ends that contradict each other: facts name a neighbour, and there is no link."""
    seen = locate(sweep_of(fat_tree(2, 1, leaf_ports=4)))
    port = Port("gpu-0001", "mlx5_0")
    del seen.links[seen.links.pop(port)]
    back = unpack(pack(seen))
    assert back == seen and port not in back.links and back.facts[port].peer is not None


@pytest.mark.parametrize("junk", [None, -3, 10**9, "x", 1.5, [], {}, [None], [[]], [-1], [10**9], ["x"], True])
def test_every_key_is_checked(junk: object) -> None:
    """A value of another kind in any place: bad input, or a snapshot that can be used and packed again."""
    for key in document():
        for deep in (False, True):
            body = document()
            if deep and isinstance(body[key], list) and body[key]:
                body[key][0] = junk
            else:
                body[key] = junk
            try:
                back = unpack(packed(body))
            except BadInput:
                continue
            assert unpack(pack(back)) == back


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_harm(data: bytes) -> None:
    for one in (data, HEAD + data, HEAD + zlib.compress(data)):
        with pytest.raises(BadInput):
            unpack(one)

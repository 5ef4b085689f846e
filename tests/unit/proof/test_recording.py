"""What a recording may hold, and the one line that says what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ostler.core.errors import BadInput, NotFound
from ostler.proof.recording import expand, find, read, shipped

FLEET = {"incident": "x", "fleet": [{"nodes": "gpu-[1-3]"}]}


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def test_ranges() -> None:
    assert expand("gpu-[08-11]x") == ["gpu-08x", "gpu-09x", "gpu-10x", "gpu-11x"]
    assert expand("node") == ["node"]


def test_events_come_in_the_order_of_time_and_then_of_the_file() -> None:
    rows = [{"at": at, "node": "gpu-1", "busy": True} for at in (5, 1, 5)]
    found = read(lines(FLEET, b"", b"# a remark", *rows), "f", "f")
    assert [(one.at, one.line) for one in found.events] == [(1.0, 5), (5.0, 4), (5.0, 6)]


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        ([], "f"),
        ([b"{"], "f:1"),
        ([b"[1]"], "f:1"),
        ([{"incident": "x"}], "f:1: fleet"),
        ([{**FLEET, "flet": 1}], "f:1: flet"),
        ([{"fleet": [{"nodes": "a"}, {"nodes": "a"}]}], "f:1: fleet.nodes"),
        ([{"fleet": [{"nodes": "gpu-[9-1]"}]}], "f:1: fleet.nodes"),
        ([{"fleet": [{"nodes": "gpu-[1-999999]"}]}], "f:1: fleet.nodes"),
        ([{"fleet": [{"nodes": "a", "skew": 1}]}], "f:1: fleet.skew"),
        ([FLEET, {"at": 1, "node": "gpu-1", "kernal": "x"}], "f:2: at"),
        ([FLEET, {"at": 1, "node": "gpu-9", "busy": True}], "f:2: node"),
        ([FLEET, {"at": -1, "node": "gpu-1", "busy": True}], "f:2: at"),
        ([FLEET, b'{"at": NaN, "node": "gpu-1", "busy": true}'], "f:2: at"),
        ([FLEET, {"at": 1, "node": "gpu-1", "busy": "yes"}], "f:2: busy"),
        ([FLEET, {"at": 1, "node": "gpu-1", "busy": True, "kernel": "x"}], "f:2: "),
        ([FLEET, {"at": 1, "node": "gpu-1", "busy": True, "extra": 1}], "f:2: extra"),
        ([FLEET, {"at": 1, "node": "gpu-1", "standing": []}], "f:2: standing"),
        ([FLEET, {"at": 1, "node": "gpu-1", "monitor": "m", "standing": ["gpu-nonsense"]}], "f:2: standing"),
        ([FLEET, {"at": 1, "node": "gpu-1", "signal": {"kind": "xid"}}], "f:2: signal.severity"),
        ([FLEET, {"expect": {"wat": 1}}], "f:2: expect.wat"),
        ([FLEET, {"expect": {"node": "gpu-1"}}], "f:2: expect"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(rows: list[Any], where: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(lines(*rows), "f", "f")
    assert caught.value.where.startswith(where)
    assert "\n" not in str(caught.value)


def test_what_ships_is_found_by_name() -> None:
    assert find("gpu-lost").title
    assert len(shipped()) >= 40
    with pytest.raises(NotFound, match="gpu-list"):
        find("gpu-list")
    with pytest.raises(NotFound):
        find("/nonexistent/x.jsonl")

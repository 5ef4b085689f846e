"""SKU documents: read strictly, written back the same."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.acceptance import sku
from ostler.acceptance.model import Activation
from ostler.core.errors import BadInput

FULL: dict[str, Any] = {
    "gpus": 8,
    "gpu_model": "H100",
    "cpus": 192,
    "memory_gib": 2048,
    "nics": 10,
    "disks": 10,
    "psus": 6,
    "order": ["HGX_FW_BMC_0", "BIOS", "connectx_0"],
    "firmware": {
        "BIOS": {"version": "2.1", "image": "http://files/b", "activation": "power-cycle"},
        "HGX_FW_BMC_0": {"version": "24.10"},
        "connectx_0": {"version": "28.43"},
    },
}


def test_read_and_written_back() -> None:
    read = sku.parse("hgx-h100", FULL)
    assert [target.component for target in read.firmware] == FULL["order"]
    assert read.firmware[1].activation is Activation.POWER_CYCLE
    assert [target.fabric_adapter for target in read.firmware] == [False, False, True]
    assert sku.parse("hgx-h100", sku.document(read)) == read
    assert sku.parse("empty", {}) == sku.parse("empty", sku.document(sku.parse("empty", {})))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"gpu": 8}, "sku x"),
        ({"gpus": "8"}, "sku x: gpus"),
        ({"gpus": True}, "sku x: gpus"),
        ({"gpus": -1}, "sku x: gpus"),
        ({"gpus": 8.0}, "sku x: gpus"),
        ({"memory_gib": float("nan")}, "sku x: memory_gib"),
        ({"memory_tolerance": 1}, "sku x: memory_tolerance"),
        ({"gpu_model": 5}, "sku x: gpu_model"),
        ({"firmware": []}, "sku x: firmware"),
        ({"firmware": {"BIOS": "2.1"}, "order": ["BIOS"]}, "sku x: firmware.BIOS"),
        ({"firmware": {"BIOS": {}}, "order": ["BIOS"]}, "sku x: firmware.BIOS.version"),
        ({"firmware": {"BIOS": {"version": 2}}, "order": ["BIOS"]}, "sku x: firmware.BIOS.version"),
        (
            {"firmware": {"BIOS": {"version": "2", "image": "file:///x"}}, "order": ["BIOS"]},
            "sku x: firmware.BIOS.image",
        ),
        (
            {"firmware": {"BIOS": {"version": "2", "activation": "now"}}, "order": ["BIOS"]},
            "sku x: firmware.BIOS.activation",
        ),
        ({"order": ["BIOS"]}, "sku x: order"),
        ({"order": ["BIOS", "BIOS", "connectx_0"]}, "sku x: order"),
        ({"order": "BIOS"}, "sku x: order"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], where: str) -> None:
    with pytest.raises(BadInput) as refused:
        sku.parse("x", {**FULL, **change})
    assert refused.value.where == where


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65])
def test_a_name_is_a_name(name: str) -> None:
    with pytest.raises(BadInput):
        sku.parse(name, {})
    with pytest.raises(BadInput):
        sku.parse("x", ["no", "table"])

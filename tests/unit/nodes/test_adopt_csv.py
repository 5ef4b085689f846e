"""The CSV of `ostler adopt`: what it takes, and the one line that says where a mistake is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.nodes.adopt import parse_slot, read_csv
from ostler.nodes.model import Service

GOOD = """\
name,serial,slot,macs,bmc,sku,pool,service
gpu-1,SN1,fra1/a/r3/u12,AA-BB-CC-00-00-01 aa:bb:cc:00:00:02,10.0.0.7,h100,train,
gpu-2,,,,,,,unmanaged
"""


def test_a_row_is_read_and_normalised() -> None:
    first, second = read_csv(GOOD, "fleet.csv")
    assert (first.name, first.serial, first.pool, first.line) == ("gpu-1", "SN1", "train", 2)
    assert first.macs == ("aa:bb:cc:00:00:01", "aa:bb:cc:00:00:02")
    assert first.bmc == "https://10.0.0.7"
    assert first.slot is not None and first.slot.domains == {"rack": "fra1/a/r3"}
    assert (second.serial, second.slot, second.pool, second.service) == ("", None, "default", Service.UNMANAGED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "fleet.csv:1: The header needs a column 'name'"),
        ("host\nx\n", "fleet.csv:1: The header needs a column 'name'"),
        ("name,colour\n", "Unknown column 'colour'"),
        ("name,sku,Name\n", "The column 'name' stands twice"),
        ("name\ngpu 1\n", "fleet.csv:2 column name: 'gpu 1' is no host name"),
        ("name,macs\ngpu-1,zz:00\n", "fleet.csv:2 column macs: 'zz:00' is no MAC"),
        ("name,slot\ngpu-1,rack3\n", "fleet.csv:2 column slot: 'rack3' is no SITE/ROW/RACK/U"),
        ("name,service\ngpu-1,mine\n", "neither managed nor unmanaged"),
        ("name\ngpu-1,extra\n", "More fields than the header"),
        ('name\n"gpu-1\n', "This is no CSV: unexpected end of data"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(text: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_csv(text, "fleet.csv")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_header() -> None:
    assert read_csv("\ufeffname\ngpu-1\n", "x")[0].name == "gpu-1"


@given(st.text(max_size=400))
def test_any_text_is_rows_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        read_csv(text, "x")


def test_a_slot_needs_four_parts() -> None:
    with pytest.raises(BadInput):
        parse_slot("a/b//d", "slot")

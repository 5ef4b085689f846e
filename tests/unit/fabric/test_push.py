"""A collection on its way from another host: there and back, and what a hostile one can do."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import pytest
from pydantic import ValidationError

from ostler.adapters.fabric.port import MOST_BYTES, Collection, Output
from ostler.core.errors import BadInput
from ostler.fabric.push import MOST_AGE_S, CollectionIn, packed, unpacked

NOW = 1_800_000_000.0


def sent() -> Collection:
    outputs = (
        Output("ibnetdiscover", ("ibnetdiscover", "-o", "8"), b"text\x00\xff", "a complaint", 0, 1.5),
        Output("opensm-subnet", ("/var/log/opensm-subnet.lst",), b"", "", None, 0.0, NOW - 100),
    )
    return Collection("sm01", NOW - 30, 2.5, outputs)


def body(**changes: Any) -> dict[str, Any]:
    found = packed(sent(), NOW)
    found["outputs"][0] |= changes
    return found


def test_what_is_sent_arrives() -> None:
    found = unpacked(CollectionIn.model_validate(packed(sent(), NOW)), NOW + 5000)
    assert found.outputs[0] == sent().outputs[0]
    assert (found.vantage, found.started_at) == ("sm01", NOW + 5000 - 30)  # by the receiver's clock
    assert found.outputs[1].taken_at == NOW + 5000 - 100
    assert found.outputs[1].status is None


def test_an_old_look_is_not_sent_as_older_than_is_taken() -> None:
    assert packed(Collection("x", NOW - 1e6, 0.0, ()), NOW)["age_s"] == MOST_AGE_S
    assert packed(Collection("x", NOW + 50, 0.0, ()), NOW)["age_s"] == 0.0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("not base64!", "is not base64"),
        (base64.b64encode(b"not zlib").decode(), "is not base64 of zlib"),
        (base64.b64encode(zlib.compress(b"x" * 1000)[:-6]).decode(), "cut off"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_in_one_line(data: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        unpacked(CollectionIn.model_validate(body(data=data)), NOW)


def test_a_bomb_is_refused_before_it_fills_the_memory() -> None:
    packer = zlib.compressobj(9)
    piece = b"\0" * (1 << 20)
    bomb = b"".join(packer.compress(piece) for _ in range((MOST_BYTES >> 20) + 1)) + packer.flush()
    assert len(bomb) < 1 << 20
    with pytest.raises(BadInput, match="MiB unpacked"):
        unpacked(CollectionIn.model_validate(body(data=base64.b64encode(bomb).decode())), NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vantage": ""},
        {"vantage": "x" * 129},
        {"age_s": -1.0},
        {"age_s": 1e9},
        {"outputs": []},
        {"extra": 1},
    ],
)
def test_a_body_of_another_form_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CollectionIn.model_validate({**packed(sent(), NOW), **wrong})

"""What `reset-gpu` runs: nvidia-smi wants the whole PCI address, an XID line has no function."""

from __future__ import annotations

import pytest

from ostler.agent.verbs import _reset_argv
from ostler.core.errors import BadInput
from ostler.wire.agent import Order


@pytest.mark.parametrize(
    ("device", "asked"),
    [("0000:18:00", "0000:18:00.0"), ("0000:18:00.0", "0000:18:00.0"), ("00000009:01:00", "00000009:01:00.0")],
)
def test_the_function_is_added(device: str, asked: str) -> None:
    assert _reset_argv(Order("o1", "reset-gpu", {"device": device})) == ("nvidia-smi", "--gpu-reset", "-i", asked)


@pytest.mark.parametrize("device", ["", "0", "all", "0000:18:00; reboot", "--id=0"])
def test_nothing_but_an_address_is_taken(device: str) -> None:
    with pytest.raises(BadInput):
        _reset_argv(Order("o1", "reset-gpu", {"device": device}))

"""Folding: the first goes at once, the rest is counted, nothing that differs is hidden, memory is bounded."""

from __future__ import annotations

from dataclasses import replace

from ostler.agent.throttle import KEYS, Throttle
from ostler.wire.agent import Signal

BASE = Signal(1, 1.0, "kernel", "xid", "31", "0000:18:00", "gpu", "warning", "none", "first")


def test_repeats_are_counted_and_told_once_a_window() -> None:
    throttle = Throttle(10.0)
    assert throttle.admit(BASE, 0.0)
    for number in range(5):
        assert not throttle.admit(replace(BASE, at=2.0 + number, message=f"no {number}"), 1.0 + number)
    assert list(throttle.due(9.9)) == []
    (told,) = throttle.due(10.0)
    assert told.detail == {"repeats": 5, "first_at": 2.0, "last_at": 6.0}
    assert told.message == "no 4"
    assert list(throttle.due(20.0)) == []
    assert throttle.next_due() is None
    assert throttle.admit(BASE, 20.0), "after a silent window the next one is first again"


def test_what_is_worse_or_elsewhere_is_never_folded() -> None:
    throttle = Throttle(10.0)
    assert throttle.admit(BASE, 0.0)
    for changed in (
        replace(BASE, severity="fatal"),
        replace(BASE, action="reset-gpu"),
        replace(BASE, device="0000:2a:00"),
        replace(BASE, code="79"),
        replace(BASE, kind="aer"),
    ):
        assert throttle.admit(changed, 1.0)


def test_invented_devices_do_not_fill_the_memory() -> None:
    throttle = Throttle(10.0)
    admitted = sum(throttle.admit(replace(BASE, device=f"dev{number}"), 0.0) for number in range(100_000))
    assert admitted == KEYS + 1
    (told,) = throttle.due(10.0)
    assert (told.device, told.code, told.detail["repeats"]) == ("", "", 100_000 - KEYS - 1)

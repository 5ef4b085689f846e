"""Buffer and spool: bounded, in order, without a hole; what a damaged file costs; numbering over lives and boots."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ostler.agent.buffer import BootBuffer, Buffer, MemoryBuffer, first_seq, last_seq
from ostler.agent.spool import FORMER_BOOTS, SpoolBuffer
from ostler.wire.agent import Gap, Signal


def signal(message: str = "m") -> Signal:
    return Signal(1, 1.0, "kernel", "xid", "79", "0000:18:00", "gpu", "fatal", "reboot", message)


def sequences(buffer: Buffer) -> list[int]:
    return [entry.seq for entry in buffer.window().signals]


def test_a_window_is_bounded_and_an_ack_moves_it() -> None:
    buffer = MemoryBuffer("b")
    for _ in range(7):
        buffer.append(signal())
    assert [entry.seq for entry in buffer.window(most=3).signals] == [1, 2, 3]
    buffer.ack("b", 3)
    assert buffer.window().first_seq == 4
    buffer.ack("another", 7)
    assert buffer.pending() == 4


def test_bytes_bound_it_too() -> None:
    buffer = MemoryBuffer("b", size=10_000)
    for _ in range(100):
        buffer.append(signal("x" * 1000))
    window = buffer.window()
    assert len(window.signals) < 10
    assert [(gap.from_seq, gap.to_seq) for gap in window.gaps] == [(1, 100 - len(window.signals))]


def test_one_report_is_bounded_in_bytes() -> None:
    buffer = MemoryBuffer("b", size=1 << 30)
    for _ in range(2000):
        buffer.append(signal("x" * 2000))
    assert len(buffer.window(most=2000).signals) < 600


class BufferMachine(RuleBasedStateMachine):
    """Whatever happens, the entries cover every sequence from the oldest unacknowledged one on, once."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = BootBuffer("b", entries=5)
        self.given = 0
        self.acked = 0

    @rule(text=st.text(max_size=3))
    def append(self, text: str) -> None:
        self.given += 1
        self.buffer.add(Signal(self.given, 1.0, "kernel", "xid", "1", "", "gpu", "info", "none", text))

    @rule()
    def declare(self) -> None:
        self.given += 1
        self.buffer.add(Gap(self.given, self.given, "kmsg-overrun"))

    @rule(part=st.floats(0, 1))
    def ack(self, part: float) -> None:
        self.acked = max(self.acked, int(self.given * part))
        self.buffer.ack(self.acked)

    @rule()
    def reject(self) -> None:
        window = self.buffer.window(2)
        if window.entries:
            self.buffer.replace_rejected(window, 1.0)

    @invariant()
    def no_hole(self) -> None:
        entries = list(self.buffer.entries)
        assert len(entries) <= 5
        expected = None
        for entry in entries:
            assert expected is None or first_seq(entry) == expected
            expected = last_seq(entry) + 1
        if entries:
            assert first_seq(entries[0]) <= self.acked + 1 <= last_seq(entries[0]) + 1
            assert expected == self.given + 1
        else:
            assert self.acked == self.given
        assert self.buffer.next_seq == self.given + 1


TestBuffer = BufferMachine.TestCase


def test_the_spool_remembers_entries_acks_and_positions(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, "b")
    for number in range(4):
        buffer.append(signal(), source="kmsg", position=str(number))
        buffer.flush()
    buffer.ack("b", 2)
    buffer.mark("file", "f")
    buffer.flush()
    again = SpoolBuffer(tmp_path, "b")
    assert sequences(again) == [3, 4]
    assert (again.position("kmsg"), again.position("file")) == ("3", "f")
    assert again.append(signal()) == 5


def test_what_was_acknowledged_in_the_same_round_is_never_written(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, "b")
    buffer.append(signal())
    buffer.ack("b", 1)
    buffer.flush()
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_bytes().splitlines()]
    assert lines == [{"a": 1, "n": 2, "p": {}}]
    assert SpoolBuffer(tmp_path, "b").append(signal()) == 2


def test_silence_writes_nothing(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, "b")
    buffer.flush()
    size = (tmp_path / "b.jsonl").stat().st_size
    buffer.flush()
    assert (tmp_path / "b.jsonl").stat().st_size == size


def test_an_overflow_survives_the_restart(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, "b", entries=4)
    for _ in range(10):
        buffer.append(signal())
        buffer.flush()
    again = SpoolBuffer(tmp_path, "b", entries=4)
    assert again.window().entries == buffer.window().entries


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    buffer = SpoolBuffer(tmp_path, "b")
    for _ in range(3):
        buffer.append(signal())
        buffer.flush()
    path = tmp_path / "b.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:-1][:cut])  # the third signal is torn
    again = SpoolBuffer(tmp_path, "b")
    assert sequences(again) == [1, 2]
    again.append(signal())
    again.flush()
    assert sequences(SpoolBuffer(tmp_path, "b")) == [1, 2, 3]


def test_a_damaged_line_is_a_declared_gap(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, "b")
    for _ in range(5):
        buffer.append(signal())
    buffer.flush()
    path = tmp_path / "b.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b'{"s": garbage\n'
    lines[2] = b"\xff\xfe\n"
    path.write_bytes(b"".join(lines))
    window = SpoolBuffer(tmp_path, "b").window()
    assert [entry.seq for entry in window.signals] == [1, 4, 5]
    assert [(gap.from_seq, gap.to_seq, gap.reason) for gap in window.gaps] == [(2, 3, "spool-damaged")]


@given(st.binary(max_size=300))
def test_no_file_stops_the_agent(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("spool")
    (folder / "b.jsonl").write_bytes(data)
    buffer = SpoolBuffer(folder, "b")
    buffer.append(signal())
    buffer.close()


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, "b", size=50_000)
    for _ in range(6000):
        seq = buffer.append(signal("x" * 500), source="kmsg", position="p")
        buffer.flush()
        buffer.ack("b", seq - 5)
    assert (tmp_path / "b.jsonl").stat().st_size < 400_000
    assert len(sequences(SpoolBuffer(tmp_path, "b"))) in (5, 6)


def test_former_boots_drain_in_order_and_are_bounded(tmp_path: Path) -> None:
    for number in range(FORMER_BOOTS + 3):
        buffer = SpoolBuffer(tmp_path, f"old-{number}")
        buffer._former.clear()  # the boots before are not this one's business here
        buffer.append(signal(), source="kmsg", position=str(number))
        buffer.close()
        os.utime(tmp_path / f"old-{number}.jsonl", (number, number))
    now = SpoolBuffer(tmp_path, "now")
    assert now.position("kmsg") == str(FORMER_BOOTS + 2)
    drained = []
    while (window := now.window()).boot_id != "now":
        drained.append((window.boot_id, [entry.seq for entry in window.signals], window.ended))
        now.ack(window.boot_id, window.last_seq)
    assert drained == [(f"old-{number}", [1], "reboot") for number in range(3, FORMER_BOOTS + 3)]


@given(before=st.integers(0, 4), fresh=st.integers(0, 6), server=st.integers(0, 12), entries=st.sampled_from([3, 100]))
def test_numbers_of_this_life_begin_behind_what_the_server_holds(
    tmp_path_factory: pytest.TempPathFactory, before: int, fresh: int, server: int, entries: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    first = SpoolBuffer(folder, "b", entries=entries)
    for _ in range(before):
        first.append(signal())
    first.close()
    second = SpoolBuffer(folder, "b", entries=entries)
    for _ in range(fresh):
        second.append(signal())
    second.sync(server)
    second.flush()
    for buffer in (second, SpoolBuffer(folder, "b", entries=entries)):
        covered = [seq for entry in buffer.window().entries for seq in range(first_seq(entry), last_seq(entry) + 1)]
        covered = [seq for seq in covered if seq > server]  # the server drops what it holds
        base = max(before, server)
        assert covered == list(range(server + 1, base + fresh + 1))
        assert buffer.append(signal()) == base + fresh + 1


def test_a_signal_that_the_server_refuses_stays_refused(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path, "b")
    for _ in range(3):
        buffer.append(signal())
    buffer.flush()
    buffer.reject(buffer.window(most=1), 1.0)
    buffer.flush()
    again = SpoolBuffer(tmp_path, "b").window()
    assert [(gap.from_seq, gap.reason) for gap in again.gaps] == [(1, "rejected")]
    assert [entry.seq for entry in again.signals] == [2, 3]


def test_a_write_that_failed_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = SpoolBuffer(tmp_path, "b")
    buffer.append(signal("x" * 500))
    real = os.pwrite

    def half(descriptor: int, data: bytes, offset: int) -> int:
        real(descriptor, data[: len(data) // 2], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space left"):
        buffer.flush()
    monkeypatch.undo()
    buffer.ack("b", 1)  # the server took it meanwhile: what is written next is shorter than what is torn
    buffer.flush()
    lines = (tmp_path / "b.jsonl").read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1, "n": 2, "p": {}}]

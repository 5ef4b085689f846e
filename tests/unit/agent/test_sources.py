"""Sources: real files that rotate and truncate, a scripted /dev/kmsg, a journalctl that is a shell script."""

from __future__ import annotations

import errno
import json
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.agent.sources.file import FileSource
from ostler.agent.sources.journal import JournalSource
from ostler.agent.sources.kmsg import KmsgSource
from ostler.agent.sources.port import LINES_PER_READ, LogLine, Missed, Source
from ostler.core.clock import ManualClock

STAMP = "2026-11-20T12:00:00.5+00:00 gpu-1 kernel: "


def messages(source: Source) -> list[str]:
    """Everything that is there now."""
    out = []
    while items := source.read():
        out += [item.message.decode() if isinstance(item, LogLine) else f"! {item.reason}" for item in items]
    return out


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "kern.log"

    @pytest.fixture
    def source(self, path: Path, clock: ManualClock) -> Iterator[FileSource]:
        made = FileSource(path, clock)
        yield made
        made.close()

    def add(self, path: Path, *texts: str, end: str = "\n") -> None:
        with path.open("a") as file:
            file.write("".join(f"{STAMP}{text}\n" for text in texts).removesuffix("\n") + end)

    def test_begins_at_the_end_and_follows(self, path: Path, source: FileSource) -> None:
        self.add(path, "old")
        source.start(None)
        assert messages(source) == []
        self.add(path, "a", "b")
        assert messages(source) == ["a", "b"]

    def test_a_file_that_appears_later_is_read_whole(self, path: Path, source: FileSource) -> None:
        source.start(None)
        assert messages(source) == []
        self.add(path, "a")
        assert messages(source) == ["a"]

    def test_half_a_line_waits_for_its_other_half(self, path: Path, source: FileSource) -> None:
        source.start(None)
        self.add(path, "ab", end="")
        assert messages(source) == []
        with path.open("a") as file:
            file.write("cd\n")
        assert messages(source) == ["abcd"]

    def test_rotation_loses_nothing(self, path: Path, source: FileSource) -> None:
        path.touch()
        source.start(None)
        self.add(path, "a")
        assert messages(source) == ["a"]
        self.add(path, "b")
        path.rename(path.with_name("kern.log.1"))
        self.add(path.with_name("kern.log.1"), "c", "last without newline", end="")
        self.add(path, "d")
        assert [*messages(source), *messages(source)] == ["b", "c", "last without newline", "d"]

    def test_a_line_between_the_last_look_and_the_rotation(
        self, path: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.touch()
        source.start(None)
        real = Path.stat

        def late(self: Path) -> os.stat_result:
            monkeypatch.undo()
            with path.open("a") as file:
                file.write(f"{STAMP}in between\n")
            path.rename(path.with_name("kern.log.1"))
            path.touch()
            return real(path)

        monkeypatch.setattr(Path, "stat", late)
        assert [*messages(source), *messages(source)] == ["in between"]

    def test_truncation_starts_over(self, path: Path, source: FileSource) -> None:
        path.touch()
        source.start(None)
        self.add(path, "a", "b")
        assert messages(source) == ["a", "b"]
        path.write_text("")
        self.add(path, "c")
        assert [*messages(source), *messages(source)] == ["c"]

    def test_a_position_goes_on_in_the_same_file(self, path: Path, source: FileSource, clock: ManualClock) -> None:
        path.touch()
        source.start(None)
        self.add(path, "a")
        assert messages(source) == ["a"]
        self.add(path, "b")
        again = FileSource(path, clock)
        again.start(source.position())
        assert messages(again) == ["b"]
        again.close()

    def test_a_position_finds_the_file_that_was_rotated_away(
        self, path: Path, source: FileSource, clock: ManualClock
    ) -> None:
        path.touch()
        source.start(None)
        self.add(path, "a")
        assert messages(source) == ["a"]
        self.add(path, "b")
        path.rename(path.with_name("kern.log.1"))
        self.add(path, "c")
        again = FileSource(path, clock)
        again.start(source.position())
        assert [*messages(again), *messages(again)] == ["b", "c"]
        again.close()

    def test_a_position_in_a_file_that_is_gone_is_a_gap(self, path: Path, clock: ManualClock) -> None:
        self.add(path, "c")
        source = FileSource(path, clock)
        source.start("1:2:3")
        assert [*messages(source), *messages(source)] == ["! file-rotated", "c"]
        source.close()

    def test_a_position_from_before_the_file_reads_all_of_it(
        self, path: Path, source: FileSource, clock: ManualClock
    ) -> None:
        source.start(None)
        source.read()
        self.add(path, "a")
        again = FileSource(path, clock)
        again.start(source.position())
        assert messages(again) == ["a"]
        again.close()

    def test_a_line_that_nobody_signed_is_no_kernel_line(self, path: Path, source: FileSource) -> None:
        source.start(None)
        path.write_text("NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus.\n")
        assert messages(source) == []

    def test_a_monstrous_line_is_passed_over(self, path: Path, source: FileSource) -> None:
        source.start(None)
        with path.open("wb") as file:
            file.write(b"x" * 3_000_000 + b"\n" + f"{STAMP}a\n".encode())
        assert [message for _ in range(20) for message in messages(source)] == ["a"]

    def test_the_stamp_of_the_line_is_its_time(self, path: Path, source: FileSource) -> None:
        source.start(None)
        self.add(path, "a")
        (item,) = source.read()
        assert isinstance(item, LogLine)
        assert item.at == 1795176000.5

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from(["write", "half", "rotate", "read", "restart"]), max_size=25))
    def test_every_line_once_and_in_order(self, tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
        """Writes, half-writes, rotations, looks and restarts in any order. Between two rotations there is a look."""
        path = tmp_path_factory.mktemp("log") / "kern.log"
        path.touch()
        clock = ManualClock()
        source = FileSource(path, clock)
        source.start(None)
        got: list[str] = []
        said, looked = 0, True
        for step in steps:
            if step == "write":
                self.add(path, str(said))
                said += 1
            elif step == "half" and path.exists():
                with path.open("a") as file:
                    file.write(STAMP)
                got += messages(source)
                with path.open("a") as file:
                    file.write(f"{said}\n")
                said += 1
            elif step == "rotate" and path.exists() and looked:
                path.rename(path.with_name("kern.log.1"))
                looked = False
            elif step == "read":
                got += messages(source) + messages(source)
                looked = path.exists()
            elif step == "restart":
                position = source.position()
                source.close()
                source = FileSource(path, clock)
                source.start(position)
        got += messages(source) + messages(source)
        source.close()
        assert got == [str(number) for number in range(said)]


class Ring:
    """What read(2) on /dev/kmsg answers, one after the other."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)

    def __call__(self, descriptor: int, size: int) -> bytes:
        if not self.answers:
            raise BlockingIOError(errno.EAGAIN, "again")
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, "ring")
        return answer


class TestKmsg:
    def source(self, clock: ManualClock, *answers: bytes | int, position: str | None = None) -> KmsgSource:
        made = KmsgSource(clock, "b", path=Path("/dev/null"), read=Ring(*answers), uptime=lambda: 100.0)
        made.start(position)
        return made

    def test_a_record_with_its_time_position_and_writer(self, clock: ManualClock) -> None:
        source = self.source(clock, b"6,339,95140900,-;NVRM: a\n SUBSYSTEM=pci\n", b"14,340,95140901,-;systemd[1]: b\n")
        first, second = source.read()
        source.close()
        assert isinstance(first, LogLine)
        assert (first.message, first.position, first.program) == (b"NVRM: a", "b:339", "kernel")
        assert first.at == pytest.approx(clock.now() - 4.8591)
        assert isinstance(second, LogLine)
        assert second.program == "systemd", "what a program wrote is not the kernel's"

    def test_escapes_are_undone(self, clock: ManualClock) -> None:
        source = self.source(clock, rb"6,1,1,-;a\x09b\xe4" + b"\n")
        (item,) = source.read()
        source.close()
        assert isinstance(item, LogLine)
        assert item.message == b"a\tb\xe4"

    def test_an_overrun_says_how_many_were_lost(self, clock: ManualClock) -> None:
        source = self.source(clock, b"6,1,1,-;a\n", errno.EPIPE, b"6,50,1,-;b\n")
        items = source.read()
        source.close()
        assert [type(item) for item in items] == [LogLine, Missed, LogLine]
        assert isinstance(items[1], Missed)
        assert (items[1].reason, items[1].detail.split()[0]) == ("kmsg-overrun", "48")

    def test_goes_on_behind_its_position_in_the_same_boot_only(self, clock: ManualClock) -> None:
        ring = (b"6,1,1,-;a\n", b"6,2,1,-;b\n", b"6,3,1,-;c\n")
        for position, expected in (("b:2", ["c"]), ("another:2", ["a", "b", "c"]), ("garbage", ["a", "b", "c"])):
            source = self.source(clock, *ring, position=position)
            assert messages(source) == expected
            source.close()

    def test_what_was_overwritten_while_the_agent_was_away_is_a_gap(self, clock: ManualClock) -> None:
        source = self.source(clock, b"6,10,1,-;a\n", position="b:5")
        assert messages(source) == ["! kmsg-overrun", "a"]
        source.close()

    @given(st.lists(st.binary(max_size=60), max_size=5))
    def test_no_record_breaks_it(self, records: list[bytes]) -> None:
        source = self.source(ManualClock(), *records)
        source.read()
        source.close()

    def test_a_flood_comes_in_helpings(self, clock: ManualClock) -> None:
        source = self.source(clock, *(b"6,%d,1,-;x\n" % number for number in range(3 * LINES_PER_READ)))
        assert len(source.read()) == LINES_PER_READ
        source.close()

    def test_other_errors_are_raised_and_the_device_is_opened_again(self, clock: ManualClock) -> None:
        source = self.source(clock, b"6,1,1,-;a\n", errno.EIO, b"6,1,1,-;a\n", b"6,2,1,-;b\n")
        with pytest.raises(OSError, match="ring"):
            source.read()
        assert messages(source) in (["b"], ["a", "b"])
        source.close()


class TestJournal:
    """`journalctl` is a shell script that writes recorded-looking JSON; journald itself does not run everywhere."""

    def script(self, folder: Path, body: str) -> tuple[str, ...]:
        path = folder / "journalctl"
        path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/called\n{body}\n')
        path.chmod(0o755)
        return (str(path),)

    def read_until(self, source: JournalSource, count: int) -> list[LogLine]:
        got: list[LogLine] = []
        for _ in range(2000):
            try:
                got += [item for item in source.read() if isinstance(item, LogLine)]
            except OSError:
                continue
            if len(got) >= count:
                return got
            descriptor = source.fileno()
            if descriptor is not None:
                select.select([descriptor], [], [], 30)
        raise AssertionError(f"only {got}")

    def entry(self, cursor: str, message: object, **fields: str) -> str:
        common = {"__CURSOR": cursor, "__REALTIME_TIMESTAMP": "1795176000500000", "_TRANSPORT": "kernel"}
        return json.dumps(common | {"MESSAGE": message} | fields)

    def test_reads_and_goes_on_behind_the_cursor_after_the_child_died(self, tmp_path: Path, clock: ManualClock) -> None:
        first = self.entry("s=1;i=1", "NVRM: a")
        second = self.entry("s=1;i=2", list(b"NVRM: \xff"))
        command = self.script(tmp_path, f"echo '{first}'; echo 'noise'; echo '{second}'")
        ticks = iter(range(0, 1_000_000, 10))
        source = JournalSource(clock, command=command, ticks=lambda: float(next(ticks)))
        source.start(None)
        got = self.read_until(source, 3)
        source.close()
        assert [line.message for line in got[:3]] == [b"NVRM: a", b"NVRM: \xff", b"NVRM: a"]
        assert (got[0].at, got[0].program, got[0].position) == (1795176000.5, "kernel", "s=1;i=1")
        called = (tmp_path / "called").read_text().splitlines()
        assert "--lines=all" in called[0]
        assert "--after-cursor=s=1;i=2" in called[1]
        assert "_TRANSPORT=kernel + _SYSTEMD_UNIT=nvidia-fabricmanager.service" in called[0]

    def test_a_dead_journalctl_is_an_error_until_it_is_tried_again(self, tmp_path: Path, clock: ManualClock) -> None:
        source = JournalSource(clock, command=self.script(tmp_path, "exit 1"), ticks=lambda: 0.0)
        source.start(None)
        with pytest.raises(OSError, match="started again"):
            self.read_until_error(source)
        source.close()

    def read_until_error(self, source: JournalSource) -> None:
        for _ in range(1000):
            source.read()
            if (descriptor := source.fileno()) is not None:
                select.select([descriptor], [], [], 30)

    def test_a_missing_journalctl_is_an_oserror(self, clock: ManualClock) -> None:
        source = JournalSource(clock, command=("/nonexistent/journalctl",), ticks=lambda: 0.0)
        source.start(None)
        with pytest.raises(OSError):
            source.read()

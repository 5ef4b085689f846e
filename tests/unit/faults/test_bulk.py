"""Whole files: both engines agree, line numbers are right, and hostile input is scanned past and counted."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.faults import Detector, Hit, bulk
from ostler.faults.formats import LINE_LIMIT, Format
from ostler.faults.logfile import CHUNK, Trouble
from tests.unit.faults.samples import QUOTES, SAMPLES

XID = "NVRM: Xid (PCI:0000:3f:00): 79, pid=7, name=train"
ENGINES: list[bulk.Engine] = [bulk.LiteralEngine(), bulk.HyperscanEngine()]


def scan(data: bytes, engine: bulk.Engine, format: Format = Format.AUTO) -> tuple[list[Hit], Trouble]:
    trouble = Trouble()
    return list(bulk.scan(Detector(), io.BytesIO(data), format, engine=engine, trouble=trouble)), trouble


@pytest.fixture(params=ENGINES, ids=lambda e: e.name)
def engine(request: pytest.FixtureRequest) -> bulk.Engine:
    found: bulk.Engine = request.param
    return found


_PREFIXES = (
    "", "[  123.456789] ", "[Sun Feb 23 16:24:18 2025] ", "Nov 28 13:45:12 gpu7 kernel: [1.5] ", "4,12,345678,-;",
    "12,12,345678,-;", "kern  :warn  : [1.5] ", "Nov 28 13:45:12 gpu7 sshd[3]: ", "<14>Nov 28 13:45:12 h kernel: ",
    "1 | 12/24/2022 | 13:58:36 | ", '{"_TRANSPORT":"kernel","MESSAGE":"', "\0\0", "x",
)  # fmt: skip
_LINES = [line for line, *_ in SAMPLES.values()] + list(QUOTES)
_line = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(_LINES).map(str.encode),
    st.builds(lambda a, b, c: (a + b + c).encode(), st.sampled_from(_PREFIXES), st.sampled_from(_LINES), st.sampled_from(["", '"}', "\r", "é"])),
    # pieces of different faults in one line: several anchors, one of them at the end
    st.builds(lambda a, b, n: a.encode() + b" " + b.encode()[n:], st.sampled_from(_LINES), st.sampled_from(_LINES), st.integers(0, 30)),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_line, max_size=30), st.booleans())
def test_both_engines_find_the_same(lines: list[bytes], closed: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if closed else b"")
    assert scan(data, ENGINES[0]) == scan(data, ENGINES[1])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4000))
def test_any_bytes_are_scanned_past(data: bytes) -> None:
    scan(data, ENGINES[0])
    scan(b"\x1f\x8b\x08" + data, ENGINES[1])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(_LINES), st.sampled_from(_PREFIXES), st.integers(0, 200), st.binary(max_size=8))
def test_a_line_with_bytes_flipped_in_breaks_nothing(line: str, prefix: str, at: int, noise: bytes) -> None:
    raw = (prefix + line).encode()
    found = Detector().examine(raw[:at] + noise + raw[at:])
    assert found is None or found[1] is None or found[1].message.isprintable()


def test_bulk_finds_what_line_by_line_finds(engine: bulk.Engine) -> None:
    rng = random.Random(3)
    lines = [rng.choice(_PREFIXES[:8]) + rng.choice(_LINES) for _ in range(2000)]
    one_by_one = Detector()
    expected = [
        (n, found[1])
        for n, line in enumerate(lines, 1)
        if (found := one_by_one.examine(line.encode())) is not None and found[1] is not None
    ]
    hits, _ = scan("\n".join(lines).encode(), engine)
    assert [(hit.line_no, hit.fault) for hit in hits] == expected
    assert len(expected) > 500


def test_line_numbers_hold_across_chunks(engine: bulk.Engine) -> None:
    filler = "[ 1.5] " + "x" * 93
    lines = [filler] * 40_000
    wanted = [1, 2, 10_486, 20_000, 20_001, 40_000]
    for number in wanted:
        lines[number - 1] = f"[{number}.5] {XID}"
    data = "\n".join(lines).encode()
    assert len(data) > 3 * CHUNK
    hits, trouble = scan(data, engine)
    assert [(hit.line_no, hit.time) for hit in hits] == [(n, f"{n}.5") for n in wanted]
    assert trouble.lines == 40_000


@pytest.mark.parametrize("size", [LINE_LIMIT + 1, CHUNK - 5, CHUNK, 3 * CHUNK + 17])
def test_a_long_line_is_looked_at_in_its_first_part_and_counted(engine: bulk.Engine, size: int) -> None:
    long = f"[1.5] {XID}".encode().ljust(size, b"x")
    behind = b"x" * size + XID.encode()
    hits, trouble = scan(b"\n".join([b"[0.5] a", long, behind, f"[2.5] {XID}".encode()]), engine)
    assert [hit.line_no for hit in hits] == [2, 4]
    assert trouble.long_lines == 2
    assert trouble.lines == 4


def test_trouble_is_counted_and_said(engine: bulk.Engine) -> None:
    data = b"\xff\xfe bad\n\0\0" + f"[1.5] {XID}\n".encode() + b"caf\xe9\n" + "café\n".encode()
    hits, trouble = scan(data, engine)
    assert [hit.line_no for hit in hits] == [2]
    assert (trouble.undecodable_lines, trouble.nul_bytes) == (2, 2)
    assert len(trouble.sentences()) == 2


def test_gzip_whole_joined_truncated_corrupt_and_followed(engine: bulk.Engine) -> None:
    plain = (f"[1.5] {XID}\n" + "noise\n" * 50_000).encode()
    packed = gzip.compress(plain)
    assert len(scan(packed, engine)[0]) == 1
    hits, trouble = scan(packed + packed + b"\0" * 512, engine)
    assert ([hit.line_no for hit in hits], trouble.gzip_error) == ([1, 50_002], "")
    hits, trouble = scan(packed[: len(packed) // 2], engine)
    assert (len(hits), trouble.gzip_error) == (1, "cut off")
    hits, trouble = scan(packed[:40] + b"\xff" * 60 + packed[100:], engine)
    assert trouble.gzip_error in ("corrupt", "cut off")
    hits, trouble = scan(packed + b"garbage", engine)
    assert (len(hits), trouble.gzip_error) == (1, "followed by something else")


def test_a_gzip_bomb_costs_no_memory(engine: bulk.Engine) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    tracemalloc.start()
    _, trouble = scan(bomb, engine)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert trouble.long_lines == 1
    assert peak < 8 << 20


def test_other_archives_are_named(engine: bulk.Engine) -> None:
    _, trouble = scan(b"\xfd7zXZ\0" + b"x" * 100, engine)
    assert "xz" in trouble.sentences()[0]


def test_a_chosen_format_believes_nothing_else(engine: bulk.Engine) -> None:
    data = f"[1.5] {XID}\n4,1,2500000,-;{XID}\nNov 28 13:45:12 h kernel: {XID}\n".encode()
    assert [hit.line_no for hit in scan(data, engine)[0]] == [1, 2, 3]
    for format, line_no in ((Format.DMESG, 1), (Format.KMSG, 2), (Format.SYSLOG, 3)):
        hits, trouble = scan(data, engine, format)
        assert [hit.line_no for hit in hits] == [line_no]
        assert trouble.unbelieved_lines == 2


def test_a_bare_line_in_a_syslog_is_someones_quotation(engine: bulk.Engine) -> None:
    data = "Nov 28 13:45:12 h app[3]: dump follows\n" * 20 + f"{XID}\n"
    hits, trouble = scan(data.encode(), engine)
    assert hits == []
    assert trouble.unbelieved_lines == 1


def test_journal_text_as_bytes_is_found(engine: bulk.Engine) -> None:
    numbers = ",".join(map(str, XID.encode()))
    for joint in (":", " : ", ": "):
        line = f'{{"_TRANSPORT":"kernel","MESSAGE"{joint}[{numbers}]}}\n'
        assert len(scan(line.encode(), engine)[0]) == 1


def test_without_the_extra_the_literals_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hyperscan", None)
    bulk.fastest.cache_clear()
    try:
        assert bulk.fastest().name == "literals"
    finally:
        bulk.fastest.cache_clear()
    monkeypatch.undo()
    assert bulk.fastest().name == "hyperscan"

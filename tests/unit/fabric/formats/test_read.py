"""What a file is, is told from its bytes; compressed files and bombs; one clear line where nothing can be read."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.formats import FORMATS, read, sniff
from ostler.fabric.formats.unpack import FREE, unpack
from ostler.fabric.sweep import ProblemKind
from tests.unit.fabric.formats.written import LINKS, Fabric, linked, sound

FILES = {
    "ibnetdiscover": Fabric().topology().encode(),
    "ibnetdiscover -p": Fabric().report().encode(),
    "ibnetdiscover-cache": Fabric().cache(),
    "opensm-subnet": Fabric().subnet().encode(),
    "iblinkinfo -l": Fabric().link_info(True).encode(),
    "iblinkinfo": Fabric().link_info(False).encode(),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_is_known_by_its_bytes(what: str) -> None:
    (sweep,) = read(FILES[what], "file")
    assert sweep.source == what.partition(" ")[0] and sweep.name == "file"
    assert linked(sweep) == LINKS and sweep.problems == []


@pytest.mark.parametrize("what", FILES)
def test_compressed_alike(what: str) -> None:
    half = len(FILES[what]) // 2
    for packed in (
        gzip.compress(FILES[what]),
        gzip.compress(FILES[what][:half]) + gzip.compress(FILES[what][half:]),
        gzip.compress(FILES[what]) + b"\0" * 512,
    ):
        (sweep,) = read(packed, "file.gz")
        assert linked(sweep) == LINKS and sweep.problems == []


@pytest.mark.parametrize("what", FILES)
def test_the_format_can_be_named(what: str) -> None:
    (sweep,) = read(FILES[what], "file", format=what.partition(" ")[0])
    assert linked(sweep) == LINKS


def test_all_formats_are_there() -> None:
    assert {"ibnetdiscover", "ibnetdiscover-cache", "opensm-subnet", "iblinkinfo"} <= set(FORMATS)


@pytest.mark.parametrize("data", [b"", b"\n \r\n\t", b"\0" * 100])
def test_an_empty_file(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"^f\.txt: The file is empty"):
        read(data, "f.txt")


def test_a_format_that_is_not_known() -> None:
    with pytest.raises(
        BadInput, match=r"^f\.txt: There is no format 'csv'. Known are: auto, ibnetdiscover, .*iblinkinfo"
    ):
        read(b"x", "f.txt", format="csv")


@pytest.mark.parametrize(
    "data", [b"hello\n", b"\x7fELF" + bytes(range(256)) * 9, b"PK\x03\x04", "größe".encode("utf-16")]
)
def test_a_file_of_no_known_format(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"^f\.txt: No known format fits. Known are: ibnetdiscover, "):
        read(data, "f.txt")


OURS = {what.partition(" ")[0] for what in FILES}
TEXTS = [what for what in FILES if what != "ibnetdiscover-cache"]


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in TEXTS for b in TEXTS if a.split()[0] != b.split()[0]])
def test_two_formats_in_one_file(first: str, second: str) -> None:
    for times in (1, 100):  # the second one in the part that is looked at first, and far behind it
        with pytest.raises(BadInput, match="Several formats are in one file"):
            read(FILES[first] * times + FILES[second], "f.txt")


def test_a_bomb_is_refused_before_it_fills_the_memory() -> None:
    packer = zlib.compressobj(9, wbits=31)
    data = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(FREE * 3 >> 20)) + packer.flush()
    tracemalloc.start()
    with pytest.raises(BadInput, match=r"^f\.gz: The gzip file unpacks to more than"):
        read(data, "f.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < FREE + (16 << 20)


def test_members_are_counted() -> None:
    with pytest.raises(BadInput, match="members"):
        read(gzip.compress(b"") * 100_001, "f.gz")


def test_many_members_are_one_bomb() -> None:
    member = gzip.compress(b"\0" * (1 << 20))
    with pytest.raises(BadInput, match="unpacks to more than"):
        read(member * ((FREE >> 20) * 4), "f.gz")


def test_a_cut_or_damaged_archive_is_a_truncated_sweep() -> None:
    text = "".join(f"# {number * 7919 % 10007}\n" for number in range(50_000)).encode() + FILES["ibnetdiscover"]
    packed = gzip.compress(FILES["ibnetdiscover"] + text)
    (sweep,) = read(packed[:-20_000], "f.gz")
    assert ProblemKind.TRUNCATED in [problem.kind for problem in sweep.problems]
    assert any("cut off" in problem.message for problem in sweep.problems)
    (sweep,) = read(packed[:60_000] + b"\xff" * 2000 + packed[62_000:], "f.gz")
    assert any("damaged" in problem.message and problem.hides for problem in sweep.problems)
    with pytest.raises(BadInput, match="Nothing could be unpacked"):
        read(b"\x1f\x8b\x08garbage that is none", "f.gz")
    with pytest.raises(BadInput, match="Nothing could be unpacked: the gzip file is empty"):
        read(gzip.compress(b""), "f.gz")


def test_unpack_leaves_plain_files_alone() -> None:
    data = b"plain"
    assert unpack(data, "x")[0] is data


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda rest: b"\x1f\x8b\x08\0" + rest)),
    st.sampled_from(sorted(FORMATS)),
)
def test_whatever_comes_is_a_sweep_or_one_line(data: bytes, format: str) -> None:
    for name in ("auto", format):
        try:
            for sweep in read(data, "x", format=name):
                if sweep.source in OURS:
                    sound(sweep)
        except BadInput as error:
            assert "\n" not in str(error) and str(error).startswith("x")


@given(st.binary(max_size=200))
def test_sniffing_never_fails_otherwise(data: bytes) -> None:
    with suppress(BadInput):
        assert sniff(data, "x") in FORMATS

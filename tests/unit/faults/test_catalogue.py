"""The catalogue: each entry finds its line, none finds a quotation, and the anchors and covers hold what they promise."""

from __future__ import annotations

import pytest

from ostler.faults import Detector
from ostler.faults.catalogue import ANCHORS, COVERED, COVERS, ENTRIES
from ostler.faults.entry import Entry
from tests.unit.faults.samples import QUOTES, SAMPLES


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_every_entry_has_a_sample_that_it_finds(entry: Entry) -> None:
    line, kind, code, device = SAMPLES[entry.name]
    assert entry.pattern.match(line.encode()) is not None
    fault = Detector().detect(line, source=sorted(entry.programs)[0])
    assert fault is not None
    assert (fault.kind.value, fault.code, fault.device) == (kind, code, device)
    assert fault.message == line
    assert fault.meaning


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_an_entrys_line_holds_its_anchor_and_its_cover(entry: Entry) -> None:
    line = SAMPLES[entry.name][0].encode()
    assert any(anchor in line for anchor in entry.anchors)
    for cover, names in COVERED.items():
        if entry.name in names:
            assert cover in line


@pytest.mark.parametrize("line", QUOTES)
@pytest.mark.parametrize("source", ["kernel", ""])
def test_a_line_that_only_quotes_or_announces_is_no_finding(line: str, source: str) -> None:
    assert Detector().detect(line, source) is None


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_a_program_that_writes_the_kernels_words_is_not_believed(entry: Entry) -> None:
    line = SAMPLES[entry.name][0]
    assert Detector().detect(line, "sshd") is None
    assert Detector().detect(line, "user") is None
    trusted = Detector(trust_user_facility=True).detect(line, "user")
    assert (trusted is not None) == ("kernel" in entry.programs)


def test_covers_name_real_entries_and_reach_every_anchor() -> None:
    names = {entry.name for entry in ENTRIES}
    assert len(names) == len(ENTRIES)
    assert {name for covered in COVERED.values() for name in covered} <= names
    assert {n for _, numbers in COVERS for n in numbers} == set(range(len(ANCHORS)))


def test_messages_are_printable_and_short() -> None:
    fault = Detector().detect(b"NVRM: Xid (PCI:0000:3f:00): 79, \x1b[31m\xff" + b"x" * 5000)
    assert fault is not None
    assert fault.message.isprintable()
    assert len(fault.message) <= 1024
    assert "\x1b" not in fault.message


def test_faults_hold_up_as_values() -> None:
    first, second = (Detector().detect(SAMPLES["xid"][0]) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)

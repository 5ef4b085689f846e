"""Who asks to boot: the whole decision table, and what counts as a name."""

from __future__ import annotations

import pytest

from ostler.core.errors import BadInput
from ostler.nodes.model import State
from ostler.provisioning.identity import clean, clean_serial, clean_uuid, identify
from ostler.provisioning.model import BootAsk, Candidate, Held, Known, New

MAC = "02:00:00:00:00:01"
OTHER = "02:00:00:00:00:99"


def node(
    id: str = "node_a",
    *,
    serial: str | None = "SN-A",
    macs: tuple[str, ...] = (MAC,),
    uuid: str | None = None,
    held: bool = False,
    state: State = State.PRODUCTION,
) -> Candidate:
    return Candidate(id, id.removeprefix("node_"), state, serial, uuid, macs, held)


A, B = node(), node("node_b", serial="SN-B", macs=(OTHER,))
BLANK = node(serial=None)


@pytest.mark.parametrize(
    ("ask", "by_mac", "by_serial", "expected"),
    [
        (BootAsk(MAC, "SN-A"), A, A, Known("node_a")),
        (BootAsk(MAC), A, None, Known("node_a")),
        (BootAsk(MAC, "SN-NEW"), BLANK, None, Known("node_a", learn_serial=True)),
        (BootAsk(MAC), node(uuid="u1"), None, Known("node_a")),
        (BootAsk(MAC, "SN-A", "u2"), node(uuid="u1"), node(uuid="u1"), Known("node_a")),
        (BootAsk(OTHER, "SN-A"), None, node(macs=()), Known("node_a", learn_mac=True)),
        (BootAsk(MAC), node(serial=None, held=True), None, Known("node_a")),
        (BootAsk(OTHER, "SN-C"), None, None, New()),
    ],
    ids=[
        "both-agree",
        "serial-not-told",
        "serial-learnt",
        "no-uuid-told",
        "new-uuid-same-serial",
        "adopted-without-macs",
        "a-held-production-node-still-comes-back",
        "nobody",
    ],
)
def test_recognised(ask: BootAsk, by_mac: Candidate | None, by_serial: Candidate | None, expected: object) -> None:
    assert identify(ask, by_mac, by_serial) == expected


@pytest.mark.parametrize(
    ("ask", "by_mac", "by_serial", "whose", "says"),
    [
        (BootAsk(MAC, "SN-X"), A, None, ("node_a",), "board was swapped"),
        (BootAsk(MAC, "SN-B"), A, B, ("node_a", "node_b"), "swapped between them"),
        (BootAsk("02:00:00:00:00:77", "SN-A"), None, A, ("node_a",), "two machines carry one serial number"),
        (BootAsk(MAC, "", "u2"), node(uuid="u1"), None, ("node_a",), "another UUID"),
        (
            BootAsk(MAC),
            node(serial=None, held=True, state=State.DISCOVERED),
            None,
            ("node_a",),
            "nobody has confirmed yet",
        ),
    ],
    ids=["board-swap", "two-nodes", "duplicate-serial", "uuid-differs", "unconfirmed"],
)
def test_held_for_a_person(
    ask: BootAsk, by_mac: Candidate | None, by_serial: Candidate | None, whose: tuple[str, ...], says: str
) -> None:
    held = identify(ask, by_mac, by_serial)
    assert isinstance(held, Held)
    assert held.node_ids == whose
    assert says in held.reason


def test_a_new_machine_without_a_serial_number_is_entered_and_held() -> None:
    verdict = identify(BootAsk(MAC), None, None)
    assert isinstance(verdict, New)
    assert "no serial number" in verdict.held


@pytest.mark.parametrize(
    "serial",
    [
        "",
        "   ",
        "To Be Filled By O.E.M.",
        "TO BE FILLED BY O.E.M.",
        "Default string",
        "0123456789",
        "System Serial Number",
        "None",
        "0",
        "00000000",
        "77777777",
        "................",
        "x\ny",
        "a${cmd}",
        "é",
        "A" * 65,
        "\x00",
    ],
)
def test_what_is_no_serial_number(serial: str) -> None:
    assert clean_serial(serial) == ""


def test_a_serial_number_loses_its_padding_only() -> None:
    assert clean_serial("  S417 / 9-B  ") == "S417 / 9-B"


@pytest.mark.parametrize("uuid", ["", "nonsense", "0" * 8, "00000000-0000-0000-0000-000000000000"])
def test_what_is_no_uuid(uuid: str) -> None:
    assert clean_uuid(uuid) == ""
    assert clean_uuid("03000200-0400-0500-0006-000700080009") == ""
    assert clean_uuid("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF") == ""
    assert clean_uuid("4C4C4544-0042-3110-8052-B4C04F563933") == "4c4c4544-0042-3110-8052-b4c04f563933"


@pytest.mark.parametrize("mac", ["02-00-00-00-00-01", "02:00:00:00:00:01", " 02:00:00:00:00:01 "])
def test_macs_have_one_spelling(mac: str) -> None:
    assert clean(mac).mac == MAC


@pytest.mark.parametrize("mac", ["", "02:00:00:00:00", "zz:00:00:00:00:01", "01:00:5e:00:00:01", "00:00:00:00:00:00"])
def test_what_is_no_mac(mac: str) -> None:
    with pytest.raises(BadInput):
        clean(mac)

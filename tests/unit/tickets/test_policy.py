"""What a ticket decides and says, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from ostler.tickets import policy, words
from ostler.tickets.model import Plug, Stage, Step, Subject, TicketState, Work

A, B = ("gpu-1", "mlx5_0"), ("leaf01", "17")


def before(times: int, stage: str, *, worked: bool = True) -> dict[str, Any]:
    at = 1.0 if worked else None
    return {"recurrence": times, "escalation": stage, "claimed_at": at, "verifying_at": None}


@pytest.mark.parametrize(
    ("previous", "escalates", "expected"),
    [
        (None, True, (0, "cable")),
        (None, False, (0, "")),
        (before(0, "cable"), True, (1, "module")),
        (before(1, "module"), True, (2, "hca")),
        (before(2, "hca"), True, (3, "hca")),
        (before(0, "cable"), False, (1, "")),
        (before(0, "cable", worked=False), True, (1, "cable")),
        (before(4, "module", worked=False), True, (5, "module")),
        (before(3, ""), True, (4, "cable")),
        ({**before(0, "cable", worked=False), "verifying_at": 1.0}, True, (1, "module")),
    ],
)
def test_what_is_suspected_next(previous: dict[str, Any] | None, escalates: bool, expected: tuple[int, str]) -> None:
    assert policy.came_back(previous, escalates=escalates) == expected


def test_every_stage_has_a_sentence() -> None:
    assert all(policy.recommended(stage).endswith(".") for stage in Stage)
    assert len({policy.recommended(stage) for stage in Stage}) == len(Stage)
    assert policy.recommended("") == ""


@pytest.mark.parametrize(
    ("safe", "force", "refused"),
    [
        ({}, "", False),
        ({"safe": None, "why": "?"}, "", False),
        ({"safe": True}, "", False),
        ({"safe": False, "why": "a job."}, "", True),
        ({"safe": False}, " \n", True),
        ({"safe": False, "why": "a job."}, "agreed", False),
    ],
)
def test_where_hands_may_go(safe: dict[str, Any], force: str, refused: bool) -> None:
    said = policy.refusal("ticket_1", safe, force)
    assert (said is not None) == refused
    if said and safe.get("why"):
        assert "not safe to touch now: a job. Whoever" in said


@pytest.mark.parametrize(
    ("assignee", "said_at", "now", "to"),
    [
        ("person:mara", 100.0, 100.0 + policy.BACK_WITHIN_S, TicketState.CLAIMED),
        ("person:mara", 100.0, 101.0 + policy.BACK_WITHIN_S, TicketState.OPEN),
        (None, 100.0, 101.0, TicketState.OPEN),
        ("person:mara", None, 101.0, TicketState.OPEN),
    ],
)
def test_who_gets_it_back(assignee: str | None, said_at: float | None, now: float, to: TicketState) -> None:
    assert policy.returns_to({"assignee": assignee, "verifying_at": said_at}, now) is to


def test_who_works_goes_on_and_else_the_oldest() -> None:
    states = ("open", "open", "verifying", "claimed", "claimed")
    rows = [{"id": str(number), "state": state} for number, state in enumerate(states)]
    found = [policy.survivor(rows[:number]) for number in (1, 2, 3, 4, 5)]
    assert found == [rows[0], rows[0], rows[2], rows[3], rows[3]]
    assert policy.survivor([]) is None


def test_the_serial_number_is_of_the_plugs_that_the_cable_is_in_now() -> None:
    step = Step("Move.", at=Plug(*A), to=Plug("gpu-1", "mlx5_1"), stays=Plug(*B), cable_serial="MT1")
    work = Work(
        key="k",
        subject=Subject.CABLE,
        cause="c",
        instruction="i",
        ports=(A, B, ("gpu-1", "mlx5_1")),
        steps=(step, Step("Look.", at=Plug("gpu-9", "x"), cable_serial="MT2"), Step("Look.", at=Plug(*A))),
    )
    assert policy.plugs(work) == {A: "MT1", B: "MT1", ("gpu-1", "mlx5_1"): ""}


HOST = {"chassis": "gpu-0001", "place": "R03 U17", "port": "mlx5_0", "label": ""}
OTHER = {**HOST, "port": "mlx5_1"}
LEAF = {"chassis": "leaf01", "place": "R10 U40", "port": "35", "label": "18/1"}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"do": "Look."}, "Look."),
        ({"do": "Move.", "at": HOST, "to": OTHER}, "Move. gpu-0001 (R03 U17) mlx5_0 → mlx5_1"),
        ({"do": "Move.", "at": HOST, "to": LEAF}, "Move. gpu-0001 (R03 U17) mlx5_0 → leaf01 (R10 U40) 18/1"),
        ({"do": "Plug in.", "at": None, "to": LEAF}, "Plug in. leaf01 (R10 U40) 18/1"),
        (
            {"do": "Move.", "at": HOST, "to": OTHER, "stays": LEAF, "cable_serial": "MT1"},
            "Move. gpu-0001 (R03 U17) mlx5_0 → mlx5_1 (leaf01 (R10 U40) 18/1 stays) cable MT1",
        ),
        ({"do": "Look.", "at": {"chassis": "leaf07", "place": "", "port": "", "label": ""}}, "Look. leaf07"),
    ],
)
def test_a_step_in_one_line(step: dict[str, Any], said: str) -> None:
    assert words.step(step) == said


@pytest.mark.parametrize(
    ("safe", "said"),
    [
        ({"safe": True, "why": "both ports are down"}, "Safe to touch: both ports are down"),
        ({"safe": False, "why": ""}, "Do not touch."),
        ({}, "Nobody can tell whether it is safe to touch."),
    ],
)
def test_safety_is_said_in_words(safe: dict[str, Any], said: str) -> None:
    assert words.safety(safe) == said


def test_the_address_is_one_path_under_the_console() -> None:
    assert words.address("https://o.example:8470/", "ticket_1") == "https://o.example:8470/tickets/ticket_1"
    assert words.address("http://o", "../x?y") == "http://o/tickets/..%2Fx%3Fy"


def test_the_code_is_a_drawing_without_anything_that_runs() -> None:
    drawn = words.qr_svg("https://o.example/tickets/ticket_1").decode()
    assert drawn.startswith("<?xml") and 'fill="#fff"' in drawn and 'stroke="#000"' in drawn
    assert "<script" not in drawn and "href" not in drawn
    assert words.qr_svg("a") != words.qr_svg("b")

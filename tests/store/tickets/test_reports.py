"""Tickets about physical causes that are seen again and again, on both databases: one per cause, proof by the fabric."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import Conflict, OstlerError, Refused
from ostler.db.engine import Database
from ostler.db.schema import audit, event
from ostler.db.tx import Tx
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Pool, Slot, State
from ostler.tickets import policy, service, store
from ostler.tickets.model import Harms, Plug, Proof, Safety, Step, Subject, Work

MARA, JO = Actor("person:mara"), Actor("person:jo")
A, B, C, D = ("gpu-1", "mlx5_0"), ("leaf01", "17"), ("gpu-2", "mlx5_0"), ("leaf01", "18")
DAY = 86_400.0


@pytest.fixture
def ids(db: Database) -> list[str]:
    """Two nodes in production."""
    db.write(lambda tx: nodes_service.define_pool(tx, Pool("default"), actor=MARA))

    def register(name: str) -> str:
        return db.write(
            lambda tx: nodes_service.register(
                tx, name=name, pool="default", actor=MARA, cause="x", state=State.PRODUCTION
            )
        ).id

    return [register("gpu-1"), register("gpu-2")]


def work(key: str = "k1", *ports: tuple[str, str], **more: Any) -> Work:
    said = {
        "subject": Subject.CABLE,
        "cause": "The plugs of gpu-1 and gpu-2 are exchanged.",
        "instruction": "Exchange them.",
        "place": "fra1/a/R03/U17",
        "fabric": "ib",
        "ports": ports or (A, B),
    }
    return Work(key=key, **{**said, **more})


def reported(db: Database, said: Work) -> str:
    return db.write(lambda tx: service.report(tx, said))


def confirmed(db: Database, key: str = "k1", **more: Any) -> str | None:
    return db.write(lambda tx: service.confirm(tx, key, "snapshot s9: all right", **more))


def still(db: Database, key: str = "k1", **more: Any) -> str | None:
    return db.write(lambda tx: service.still(tx, key, "one plug is still in 18", **more))


def claim(db: Database, ticket: str, actor: Actor = MARA, force: str = "") -> None:
    db.write(lambda tx: service.claim(tx, ticket, actor=actor, force=force))


def unclaim(db: Database, ticket: str, actor: Actor = MARA, reason: str = "") -> None:
    db.write(lambda tx: service.unclaim(tx, ticket, actor=actor, reason=reason))


def done(db: Database, ticket: str, actor: Actor = MARA) -> None:
    db.write(lambda tx: service.done(tx, ticket, actor=actor, evidence="exchanged"))


def comment(db: Database, ticket: str, text: str) -> None:
    db.write(lambda tx: service.comment(tx, ticket, actor=MARA, text=text))


def get(db: Database, ticket: str) -> sa.RowMapping:
    return db.read(lambda tx: store.get(tx, ticket))


def told(db: Database, ticket: str) -> list[str]:
    rows = db.read(lambda tx: tx.all(sa.select(event.c.type).where(event.c.subject == ticket).order_by(event.c.seq)))
    return [row["type"].removeprefix("ticket.") for row in rows]


def last(db: Database, ticket: str) -> dict[str, Any]:
    query = sa.select(event.c.data).where(event.c.subject == ticket).order_by(event.c.seq.desc()).limit(1)
    found: dict[str, Any] = db.read(lambda tx: tx.scalar(query))
    return found


def hands(db: Database, ids: list[str]) -> list[str | None]:
    return db.read(lambda tx: [nodes.get(tx, one).maintenance_by for one in ids])


def put(db: Database, state: str, **more: Any) -> str:
    """A ticket in a state."""
    ticket = reported(db, work(**more))
    if state in ("claimed", "verifying"):
        claim(db, ticket)
    if state == "verifying":
        done(db, ticket)
    return ticket


# One per cause --------------------------------------------------------------------------------------------------------


def test_the_next_run_updates_instead_of_repeating(db: Database, clock: ManualClock) -> None:
    ticket = reported(db, work())
    clock.advance(3600)
    assert reported(db, work()) == ticket
    assert told(db, ticket) == ["opened"], "nothing that a reader would notice"
    row = get(db, ticket)
    assert (row["updates"], row["updated_at"], row["seen_at"]) == (0, None, clock.now())
    assert reported(db, work(evidence={"snapshot": "s2"})) == ticket
    assert get(db, ticket)["evidence"] == {"snapshot": "s2"}
    assert told(db, ticket) == ["opened"]


STEP = Step("Move the plug.", at=Plug(*A, "R03 U17"), to=Plug("gpu-1", "mlx5_1", "R03 U17"), cable_serial="MT1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cause", "Something else."),
        ("instruction", "Do something else."),
        ("place", "fra1/a/R04/U17"),
        ("steps", (STEP,)),
        ("harms", Harms(("gpu-1",), "llama-70b")),
        ("safe", Safety(False, "the port carries a job")),
    ],
)
def test_what_a_reader_would_notice_is_told_once(db: Database, clock: ManualClock, name: str, value: Any) -> None:
    ticket = reported(db, work())
    clock.advance(60)
    changed = work(**{name: value})
    assert reported(db, changed) == reported(db, changed) == ticket
    assert told(db, ticket) == ["opened", "updated"]
    assert last(db, ticket)["changed"] == [name]
    assert get(db, ticket)["updates"] == 1
    assert get(db, ticket)["updated_at"] == clock.now()


def test_a_ticket_grows_with_its_component(db: Database, clock: ManualClock) -> None:
    ticket = reported(db, work("k1", A, B))
    clock.advance(60)
    assert reported(db, work("k2", A, B, C, D, cause="Three plugs are rotated.")) == ticket
    assert told(db, ticket) == ["opened", "updated"]
    assert db.read(lambda tx: store.ports_of(tx, ticket)) == sorted([A, B, C, D])
    assert db.read(lambda tx: store.by_key(tx, "k1")) is None
    clock.advance(60)
    assert reported(db, work("k3", C, D)) == ticket
    assert reported(db, work("k4", A, B)) != ticket, "the same run: the component fell apart"


def test_two_causes_of_one_run_at_the_same_plug_stay_two(db: Database, clock: ManualClock) -> None:
    first = reported(db, work("flapping", A, B))
    second = reported(db, work("degraded", A, B))
    assert second != first
    for _ in range(2):
        clock.advance(60)
        assert [reported(db, work(key, A, B)) for key in ("degraded", "flapping")] == [second, first]
    assert told(db, first) == told(db, second) == ["opened"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"fabric": "other"}, "another fabric"),
        ({"subject": Subject.SWITCH}, "a switch is not its cables"),
        ({"proof": Proof.PERSON}, "another proof"),
        ({"ports": (C, ("leaf01", "19"))}, "the same switch, other plugs"),
    ],
)
def test_what_does_not_overlap_is_another_ticket(
    db: Database, clock: ManualClock, more: dict[str, Any], why: str
) -> None:
    ticket = reported(db, work())
    clock.advance(60)
    assert reported(db, work("k2", **more)) != ticket, why


def test_two_tickets_that_turn_out_to_be_one_cause_become_one(db: Database, clock: ManualClock) -> None:
    first, second = reported(db, work("k1", A, B)), reported(db, work("k2", C, D))
    third = reported(db, work("k3", ("gpu-9", "mlx5_0")))
    claim(db, second)
    clock.advance(60)
    assert reported(db, work("k4", A, B, C, D)) == second, "somebody works on it"
    assert get(db, first)["state"] == "done"
    assert last(db, first)["into"] == second
    assert get(db, second)["key"] == "k4"
    assert get(db, third)["state"] == "open"
    assert [row["id"] for row in db.read(lambda tx: store.of_chassis(tx, "ib", "leaf01"))] == [second]
    assert db.read(lambda tx: store.earlier(tx, second)) == [], "nothing was done for the one that is part of it"


def test_two_that_are_claimed_stay_two(db: Database, clock: ManualClock) -> None:
    first, second = reported(db, work("k1", A, B)), reported(db, work("k2", C, D))
    claim(db, first)
    claim(db, second, JO)
    clock.advance(60)
    assert reported(db, work("k4", A, B, C, D)) == first
    assert get(db, second)["state"] == "claimed"


def test_an_older_run_changes_nothing(db: Database, clock: ManualClock) -> None:
    ticket = reported(db, work())
    before = get(db, ticket)
    assert reported(db, work(cause="Old news.", seen_at=clock.now() - 60)) == ticket
    assert get(db, ticket) == before
    assert confirmed(db, seen_at=clock.now() - 60) is None
    assert get(db, ticket) == before


def test_of_many_who_report_at_once_one_opens(db: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda number: reported(db, work()), range(8)))
    assert len(found) == 1


def test_reports_of_one_fabric_wait_for_each_other(db: Database, db_url: str, clock: ManualClock) -> None:
    """Two causes that overlap must not both find no ticket. SQLite has one writer anyway."""
    free = sa.text("select pg_try_advisory_xact_lock(hashtextextended('tickets:ib', 0))")
    other = Database(db_url, clock)

    def report(tx: Tx) -> bool:
        service.report(tx, work())
        return tx.dialect != "postgresql" or not other.read(lambda second: second.scalar(free))

    assert db.write(report)
    other.close()


def test_hostile_texts_are_kept_harmless(db: Database) -> None:
    plug = Plug("gpu\0-1", "mlx5\ud800_0")
    ticket = reported(
        db, work("k\0", ("gpu\0-1", "mlx5\ud800_0"), cause="a\0b", steps=(Step("x\0", at=plug, cable_serial="s\0"),))
    )
    assert get(db, ticket)["cause"] == "a�b"
    assert db.read(lambda tx: store.ports_of(tx, ticket)) == [("gpu�-1", "mlx5�_0")]
    assert confirmed(db, "k\0") == ticket


def test_a_ticket_without_nodes_ports_or_place_is_one_too(db: Database) -> None:
    ticket = reported(db, Work(key="k", subject=Subject.SWITCH, cause="spine01 is down", instruction="Look."))
    claim(db, ticket)
    done(db, ticket)
    assert confirmed(db, "k", seen_at=db.clock.now() + 1) == ticket


def test_the_place_comes_from_the_nodes_slot_when_none_is_said(db: Database, ids: list[str]) -> None:
    db.write(lambda tx: nodes.put_slot(tx, Slot("s1", "fra1", "a", "R03", "U17")))
    db.write(lambda tx: nodes.update(tx, ids[0], {"slot": "s1"}))
    ticket = reported(db, work(place="", node_ids=(ids[0],)))
    assert (get(db, ticket)["place"], get(db, ticket)["slot"]) == ("fra1/a/R03/U17", "s1")
    reported(db, work(place="", node_ids=(ids[0],)))
    assert told(db, ticket) == ["opened"]
    node = db.read(lambda tx: nodes.get(tx, ids[0]))
    other = db.write(lambda tx: service.open_ticket(tx, node=node, cause="fan", instruction="x", evidence={}))
    assert get(db, other)["place"] == "fra1/a/R03/U17"


# The moves of its state -----------------------------------------------------------------------------------------------

Move = Callable[[Database, str], object]
MOVES: dict[str, Move] = {
    "claim": lambda db, ticket: claim(db, ticket, JO),
    "unclaim": unclaim,
    "done": done,
    "confirm": lambda db, ticket: confirmed(db, seen_at=db.clock.now() + 60),
    "still": lambda db, ticket: still(db, seen_at=db.clock.now() + 60),
    "report": lambda db, ticket: reported(db, work(seen_at=db.clock.now() + 60)),
}
TABLE = {
    # from: {move: to}; what is not here is refused, or changes nothing
    "open": {"claim": "claimed", "done": "verifying", "confirm": "done", "still": "open", "report": "open"},
    "claimed": {
        "unclaim": "open",
        "done": "verifying",
        "confirm": "done",
        "still": "claimed",
        "report": "claimed",
    },
    "verifying": {"confirm": "done", "still": "claimed", "report": "claimed"},
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("state", TABLE)
def test_every_move_from_every_state(db: Database, state: str, move: str) -> None:
    ticket = put(db, state)
    expected = TABLE[state].get(move)
    before = told(db, ticket)
    if expected is None:
        with pytest.raises(Conflict):
            MOVES[move](db, ticket)
        assert told(db, ticket) == before
    else:
        MOVES[move](db, ticket)
    assert get(db, ticket)["state"] == (expected or state)
    assert (len(told(db, ticket)) > len(before)) == (expected not in (None, state))


@pytest.mark.parametrize("move", ["claim", "unclaim", "done"])
def test_what_is_done_stays_done(db: Database, move: str) -> None:
    ticket = put(db, "open")
    confirmed(db)
    with pytest.raises(Conflict):
        MOVES[move](db, ticket)
    assert confirmed(db) is None
    assert still(db) is None
    assert told(db, ticket) == ["opened", "closed"]
    assert reported(db, work()) != ticket


def test_a_persons_word_does_not_close_what_the_fabric_proves(db: Database, clock: ManualClock) -> None:
    ticket = put(db, "verifying")
    row = get(db, ticket)
    assert (row["state"], row["closed_at"], row["verifying_at"]) == ("verifying", None, clock.now())
    assert row["closing"] == {"by": "person:mara", "evidence": "exchanged"}
    assert [one["id"] for one in db.read(lambda tx: store.verifying(tx, "ib"))] == [ticket]
    assert db.read(lambda tx: store.verifying(tx, "other")) == []
    assert confirmed(db, seen_at=clock.now()) is None, "it was looked at before the technician was done"
    assert still(db, seen_at=clock.now()) is None
    clock.advance(30)
    assert confirmed(db, detail={"snapshot": "s9"}) == ticket
    closing = get(db, ticket)["closing"]
    assert closing == {
        "by": "ostler:fabric",
        "evidence": "snapshot s9: all right",
        "snapshot": "s9",
        "technician": {"by": "person:mara", "evidence": "exchanged"},
    }
    assert told(db, ticket) == ["opened", "claimed", "verifying", "closed"]
    assert last(db, ticket)["itself"] is False


def test_the_fabric_does_not_close_what_a_person_proves(db: Database) -> None:
    ticket = put(db, "open", proof=Proof.PERSON)
    assert confirmed(db) is None
    done(db, ticket)
    assert get(db, ticket)["state"] == "done"
    assert told(db, ticket) == ["opened", "closed"]


@pytest.mark.parametrize(("state", "says"), [("open", "nobody had taken it"), ("claimed", "while person:mara had it")])
def test_what_closes_by_itself_says_so(db: Database, ids: list[str], state: str, says: str) -> None:
    ticket = put(db, state, node_ids=tuple(ids))
    confirmed(db)
    assert f"closed by itself{' ' if state == 'claimed' else ', '}{says}" in get(db, ticket)["closing"]["evidence"]
    assert last(db, ticket)["itself"] is True
    assert hands(db, ids) == [None, None]


def test_still_there_goes_back_to_whoever_is_at_the_rack(db: Database, ids: list[str], clock: ManualClock) -> None:
    ticket = put(db, "verifying", node_ids=tuple(ids))
    assert hands(db, ids) == [None, None]
    clock.advance(60)
    assert still(db) == ticket
    row = get(db, ticket)
    assert (row["state"], row["assignee"], row["closing"]) == ("claimed", "person:mara", {})
    assert "one plug is still in 18" in row["notes"][-1]["text"]
    assert last(db, ticket)["said"] == {"by": "person:mara", "evidence": "exchanged"}
    assert hands(db, ids) == ["person:mara"] * 2
    done(db, ticket)
    clock.advance(policy.BACK_WITHIN_S + 1)
    assert still(db) == ticket
    row = get(db, ticket)
    assert (row["state"], row["assignee"]) == ("open", None), "they went home"
    assert hands(db, ids) == [None, None]
    claim(db, ticket, JO)
    assert told(db, ticket) == ["opened", "claimed", "verifying", "reopened", "verifying", "reopened", "claimed"]


def test_a_report_of_what_was_seen_before_the_technician_was_done_waits(db: Database, clock: ManualClock) -> None:
    ticket = put(db, "verifying")
    reported(db, work(seen_at=clock.now()))
    assert get(db, ticket)["state"] == "verifying"
    clock.advance(60)
    reported(db, work("k2", B, C, cause="Now another plug is wrong."))
    row = get(db, ticket)
    assert (row["state"], row["key"], row["cause"]) == ("claimed", "k2", "Now another plug is wrong.")
    assert told(db, ticket)[-1] == "reopened"


# Hands ----------------------------------------------------------------------------------------------------------------


def test_a_claim_locks_every_node_and_giving_back_frees_them(db: Database, ids: list[str]) -> None:
    ticket = reported(db, work(node_ids=tuple(ids)))
    node = db.read(lambda tx: nodes.get(tx, ids[1]))
    fan = db.write(lambda tx: service.open_ticket(tx, node=node, cause="fan", instruction="x", evidence={}))
    assert {row["id"] for row in db.read(lambda tx: store.listed(tx, node_id=ids[1]))} == {ticket, fan}
    claim(db, ticket)
    assert hands(db, ids) == ["person:mara"] * 2
    claim(db, fan, JO)
    unclaim(db, ticket)
    assert hands(db, ids) == [None, "person:jo"]
    done(db, fan, JO)
    assert hands(db, ids) == [None, None]
    assert get(db, ticket)["assignee"] is None


def test_the_lock_follows_the_nodes_of_a_claimed_ticket(db: Database, ids: list[str], clock: ManualClock) -> None:
    ticket = reported(db, work(node_ids=(ids[0],)))
    claim(db, ticket)
    clock.advance(60)
    reported(db, work(node_ids=(ids[1],)))
    assert hands(db, ids) == [None, "person:mara"]
    assert last(db, ticket)["changed"] == ["nodes"]


def test_a_lock_of_somebody_else_is_left_alone(db: Database, ids: list[str]) -> None:
    ticket = reported(db, work(node_ids=tuple(ids)))
    claim(db, ticket)
    db.write(lambda tx: nodes.update(tx, ids[0], {"maintenance_by": "person:window"}))
    done(db, ticket)
    assert hands(db, ids) == ["person:window", None]


def test_what_is_not_safe_is_claimed_with_a_reason_only(db: Database, ids: list[str]) -> None:
    unsafe = Safety(False, "llama-70b runs over the port")
    ticket = reported(db, work(node_ids=tuple(ids), safe=unsafe))
    for force in ("", "  "):
        with pytest.raises(Refused, match="llama-70b runs over the port"):
            claim(db, ticket, force=force)
    assert hands(db, ids) == [None, None]
    claim(db, ticket, force="agreed with the owner")
    assert last(db, ticket)["forced"] == "agreed with the owner"
    entry = db.read(lambda tx: tx.one(sa.select(audit).where(audit.c.action == "ticket.claimed")))
    assert entry is not None and entry["reason"] == "agreed with the owner"


@pytest.mark.parametrize("safe", [None, True])
def test_what_may_be_safe_is_claimed_without(db: Database, safe: bool | None) -> None:
    ticket = reported(db, work(safe=Safety(safe, "")))
    claim(db, ticket, force="no need")
    assert last(db, ticket)["forced"] == ""


def test_anothers_ticket_is_taken_away_with_a_reason_only(db: Database) -> None:
    ticket = put(db, "claimed")
    with pytest.raises(Refused, match="person:mara has"):
        unclaim(db, ticket, JO)
    unclaim(db, ticket, JO, "end of mara's shift")
    assert (last(db, ticket)["assignee"], last(db, ticket)["by"]) == ("person:mara", "person:jo")


def test_notes_are_kept_in_order_and_not_for_ever(db: Database) -> None:
    ticket = put(db, "open")
    with pytest.raises(OstlerError, match="says something"):
        comment(db, ticket, " \n")
    for number in range(policy.MOST_NOTES + 1):
        comment(db, ticket, f"note {number} ")
    notes = get(db, ticket)["notes"]
    assert [note["text"] for note in notes[:1] + notes[-1:]] == ["note 1", f"note {policy.MOST_NOTES}"]
    assert notes[0]["by"] == "person:mara"


# Coming back ----------------------------------------------------------------------------------------------------------


def repaired(db: Database, clock: ManualClock, key: str = "k1", *, hands_on: bool = True, **more: Any) -> sa.RowMapping:
    """A ticket from its opening to its end, a minute later; as it was when it was opened."""
    ticket = reported(db, work(key, **more))
    opened = get(db, ticket)
    if hands_on:
        claim(db, ticket)
        done(db, ticket)
    clock.advance(60)
    assert confirmed(db, key) == ticket
    return opened


def test_what_comes_back_escalates(db: Database, clock: ManualClock) -> None:
    found = []
    for _ in range(4):
        row = repaired(db, clock)
        found.append((row["recurrence"], row["escalation"]))
        clock.advance(29 * DAY)
    assert found == [(0, "cable"), (1, "module"), (2, "hca"), (3, "hca")]
    last_one = reported(db, work())
    history = db.read(lambda tx: store.earlier(tx, last_one))
    assert [row["recurrence"] for row in history] == [3, 2, 1, 0]
    assert "replace the HCA" in last(db, last_one)["recommended"]


def test_after_thirty_days_it_is_a_new_fault(db: Database, clock: ManualClock) -> None:
    repaired(db, clock)
    clock.advance(policy.RECURS_WITHIN_S + 1)
    row = repaired(db, clock)
    assert (row["recurrence"], row["escalation"]) == (0, "cable")


def test_what_went_away_by_itself_was_not_repaired(db: Database, clock: ManualClock) -> None:
    repaired(db, clock, hands_on=False)
    row = repaired(db, clock)
    assert (row["recurrence"], row["escalation"]) == (1, "cable")
    assert repaired(db, clock)["escalation"] == "module"


def test_a_misplaced_plug_blames_no_part(db: Database, clock: ManualClock) -> None:
    repaired(db, clock, escalates=False)
    row = repaired(db, clock, escalates=False)
    assert (row["recurrence"], row["escalation"]) == (1, "")
    assert repaired(db, clock)["escalation"] == "cable"


def test_the_same_cable_elsewhere_and_another_key_are_the_same_history(db: Database, clock: ManualClock) -> None:
    step = Step("Reseat it.", at=Plug(*A), stays=Plug(*B), cable_serial="MT77")
    repaired(db, clock, "k1", steps=(step,))
    assert repaired(db, clock, "k2", ports=(B, C))["recurrence"] == 1, "one plug is the same"
    elsewhere = Step("Reseat it.", at=Plug("gpu-8", "mlx5_3"), cable_serial="MT77")
    moved = repaired(db, clock, "k3", ports=(("gpu-8", "mlx5_3"),), steps=(elsewhere,))
    assert moved["recurrence"] == 1, "the cable is the same"
    assert repaired(db, clock, "k4", ports=(("gpu-8", "mlx5_4"),))["recurrence"] == 0


# Lists ----------------------------------------------------------------------------------------------------------------


def test_lists_are_narrowed(db: Database, ids: list[str]) -> None:
    a = reported(db, work("a", A, place="fra1/a/R1/U1"))
    b = reported(db, work("b", B, place="fra1/a/R10/U1", subject=Subject.SWITCH))
    c = reported(db, work("c", C, place="fra1/a/R1", node_ids=(ids[1],)))
    claim(db, a)
    confirmed(db, "c")

    def listed(**asked: Any) -> set[str]:
        return {row["id"] for row in db.read(lambda tx: store.listed(tx, **asked))}

    assert listed() == {a, b, c}
    assert listed(state="unfinished") == {a, b}
    assert listed(state="claimed") == listed(assignee="person:mara") == {a}
    assert listed(subject="switch") == {b}
    assert listed(place="fra1/a/R1") == listed(place="fra1/a/R1/") == {a, c}, "R10 is another rack"
    assert listed(place="fra1") == {a, b, c}
    assert listed(place="fra_") == set()
    assert listed(node_id=ids[1]) == {c}
    assert listed(after=b) == {a}

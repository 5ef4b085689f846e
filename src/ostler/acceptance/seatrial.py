"""Seatrial as a durable procedure: a node is watched for a while, in-band and out-of-band, against its SKU, and its
cables against the blueprint (`cabling.py`).

Steps: `observe` (again and again through the window) → `judge`. It only reads: no step here needs a permit. What counts
is what is wrong at the end and what was wrong more than once; a look that could not be taken is no good look. Started
by `driver.py`, collected by `tasks.py`.
"""

from __future__ import annotations

from typing import Any

from ostler.acceptance import policy, service, store
from ostler.acceptance.cabling import Cables, Cabling, CablingOf, settle_tickets
from ostler.acceptance.model import AcceptanceSettings, Comparison, OpenBmc, Sku
from ostler.acceptance.service import ACTOR, SEATRIAL
from ostler.adapters.bmc.port import BmcInventory, Sensor
from ostler.core.errors import OstlerError, Permanent, Temporary
from ostler.core.steps import Done, Go, StepResult, Wait
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.jobs.procedure import JobView, Procedure
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, State
from ostler.trends.model import Verdict

_CABLING = "cabling: "
_HISTORY = 64
"""Different differences that are remembered per window."""


def procedure(db: Database, settings: AcceptanceSettings, open_bmc: OpenBmc, cabling_of: CablingOf) -> Procedure:
    """The procedure over these ports."""
    trial = _Seatrial(db, settings, open_bmc, Cabling(db, settings, cabling_of))
    return Procedure(SEATRIAL, 1, "observe", {"observe": trial.observe, "judge": trial.judge})


class _Seatrial:
    def __init__(self, db: Database, settings: AcceptanceSettings, open_bmc: OpenBmc, cabling: Cabling) -> None:
        self._db = db
        self._settings = settings
        self._open_bmc = open_bmc
        self._cabling = cabling

    def observe(self, job: JobView) -> StepResult:
        """One look. Waits for a person where there is nothing to look at or to compare with."""
        node, sku = self._db.read(lambda tx: self._present(tx, job))
        if gone(node, State.SEATRIAL, job):
            return Done({"ended": f"the node is in {node.state}"})
        if (lack := self._lack(node, sku)) is not None:
            return Wait(self._settings.observe_s, lack, write=lambda tx: service.hold(tx, node.id, SEATRIAL, lack))
        regular = job.now >= float(job.data.get("next", 0.0))
        data = self._observed(job, node, sku) if regular else dict(job.data)
        turn = self._cabling.turn(job, node, regular=regular)
        data["cabling"] = turn.state
        left = float(data["begun"]) + self._settings.seatrial_window_s - job.now
        if turn.state.get("state") == "bad" and self._cabling.settled(turn.state):
            return Go("judge", data, write=lambda tx: _written(turn.write(tx)))
        if left <= 0 and self._cabling.settled(turn.state):
            if not data["unreachable"] or left <= -self._settings.bmc_patience_s:
                return Go("judge", data, write=lambda tx: _written(turn.write(tx)))
            why, pause = data["unreachable"], self._settings.observe_s
        elif left <= 0:
            why, pause = "the node's cabling is not known yet", self._settings.observe_s
        else:
            why = f"observing for {left / 60:.0f} min more; {len(data['last'])} differences now"
            pause = min(self._settings.observe_s, left)
        if regular:
            data["next"] = job.now + pause
        pause = max(float(data["next"]) - job.now, 1.0)

        def note(tx: Tx) -> StepResult:
            service.release(tx, node.id, SEATRIAL)
            return Wait(pause, why, {**data, "cabling": turn.write(tx)})

        return Wait(pause, why, data, write=note)

    def _observed(self, job: JobView, node: Node, sku: Sku | None) -> dict[str, Any]:
        """What the job remembers after one more look."""
        look, firmware, unreachable = self._look(node, sku)
        history = dict(job.data.get("history", {}))
        for mismatch in look.mismatches:
            if mismatch.message in history or len(history) < _HISTORY:
                history[mismatch.message] = history.get(mismatch.message, 0) + 1
        data: dict[str, Any] = {
            **job.data,
            "begun": float(job.data.get("begun", job.now)),
            "looks": int(job.data.get("looks", 0)) + 1,
            "history": history,
            "last": [mismatch.message for mismatch in look.mismatches],
            "blind": list(look.blind),
            "unreachable": unreachable,
        }
        if firmware:
            data["firmware"] = firmware
        return data

    def judge(self, job: JobView) -> StepResult:
        """Pass on to zap, or to triage with a ticket."""
        cables = self._cabling.cables(job, self._db.read(lambda tx: nodes.get(tx, job.subject)))

        def write(tx: Tx) -> None:
            node, sku = self._present(tx, job)
            if gone(node, State.SEATRIAL, job):
                return
            verdict, message = self._verdict(job, cables)
            standing = settle_tickets(tx, node, cables)
            measured = {
                "sku": None if sku is None else sku.name,
                "looks": job.data["looks"],
                "seconds": job.now - float(job.data["begun"]),
                "differences": job.data["history"],
                "blind": [*job.data["blind"], *([cables.blind] if cables.blind else [])],
                "cabling": {"verdict": cables.verdict or "blind", "lines": list(cables.lines), "do": list(cables.do)},
                "firmware": job.data.get("firmware", {}),
            }
            service.conclude(tx, node, SEATRIAL, verdict, measured=measured, message=message)
            if verdict is Verdict.PASSED:
                service.advance(
                    tx, node, State.ZAP, cause="seatrial-passed", reason=message, evidence={"looks": job.data["looks"]}
                )
                return
            cause, evidence = f"seatrial-{verdict}", {**measured, "tickets": standing}
            if standing and not self._wrong(job):  # the tickets of its cables say all that there is to do
                service.advance(tx, node, State.TRIAGE, cause=cause, reason=message, evidence=evidence)
                return
            service.divert(
                tx,
                node,
                State.TRIAGE,
                cause=cause,
                reason=message,
                instruction=_instruction(verdict, message, cables),
                evidence=evidence,
            )

        return Done(write=write)

    def _wrong(self, job: JobView) -> tuple[str, ...]:
        return policy.lasting(job.data["history"], job.data["last"])

    def _verdict(self, job: JobView, cables: Cables) -> tuple[Verdict, str]:
        wrong = self._wrong(job)
        if wrong or cables.verdict is Verdict.FAILED:
            said = "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
            cabling = f"{_CABLING}{cables.message}" if cables.verdict is Verdict.FAILED else ""
            return Verdict.FAILED, "; ".join(part for part in (said, cabling) if part)
        if job.data["unreachable"]:
            return Verdict.INCONCLUSIVE, str(job.data["unreachable"])
        if hidden := self._hidden(job.data["blind"]):
            return Verdict.INCONCLUSIVE, hidden
        if cables.verdict is Verdict.INCONCLUSIVE:
            return Verdict.INCONCLUSIVE, f"{_CABLING}{cables.message}"
        told = "" if cables.verdict is None else ", and every cable is where the design has it"
        return Verdict.PASSED, f"inventory matches in {job.data['looks']} looks{told}"

    def _hidden(self, blind: list[str]) -> str:
        """Blindness that keeps the node from passing: nothing was seen in-band at all."""
        return next((what for what in blind if what.startswith("the node's agent")), "")

    def _present(self, tx: Tx, job: JobView) -> tuple[Node, Sku | None]:
        node = nodes.get(tx, job.subject)
        return node, store.find_sku(tx, node.sku)

    def _lack(self, node: Node, sku: Sku | None) -> str | None:
        """What a person has to add before there is anything to observe. A SKU that fits exactly is taken over."""
        if sku is None and self._settings.require_sku:
            if node.sku is not None:
                return f"the SKU '{node.sku}' is not declared; declare it (PUT /v1/skus/{node.sku})"
            found = self._db.write(lambda tx: _match(tx, node.id))
            if found is None:
                return "no SKU is set and none fits the inventory; set one (PUT /v1/nodes/NODE/sku)"
            return f"the SKU {found} fits; it is taken from the next look on"
        if node.bmc_address is None and self._settings.require_bmc:
            return "no BMC address is in the books, so nothing can be seen out-of-band; add it"
        return None

    def _look(self, node: Node, sku: Sku | None) -> tuple[Comparison, dict[str, str], str]:
        """In-band from the books, out-of-band from the BMC; and why the BMC could not be asked, if so."""
        inventory: BmcInventory | None = None
        sensors: tuple[Sensor, ...] = ()
        firmware: dict[str, str] = {}
        unreachable = ""
        if node.bmc_address is not None:
            try:
                with self._open_bmc(node) as bmc:
                    inventory = bmc.inventory()
                    sensors = tuple(bmc.sensors())
                    firmware = {item.component: item.version for item in bmc.firmware()}
            except (Temporary, Permanent) as error:
                unreachable = _told(error)
        return policy.compare_inventory(sku, node.inventory, inventory, sensors), firmware, unreachable


def _written(_: object) -> None:
    """An answer that was kept changes nothing about where the job goes."""


def gone(node: Node, state: State, job: JobView) -> bool:
    """The node left the visit to `state` that this job was started for."""
    return node.state is not state or node.state_since != job.data["since"]


def _match(tx: Tx, node_id: str) -> str | None:
    node = nodes.get(tx, node_id)
    sku = policy.match_sku(store.skus(tx), node.inventory)
    if sku is None:
        return None
    service.assign_sku(tx, node.id, sku.name, actor=ACTOR, reason="its inventory fits this SKU and no other")
    return sku.name


def _told(error: OstlerError) -> str:
    return f"the BMC cannot be asked: {error}"


def _instruction(verdict: Verdict, message: str, cables: Cables) -> str:
    if message.startswith(_CABLING) and verdict is Verdict.INCONCLUSIVE:
        return f"make it possible to look at the node's InfiniBand ports, then return it. {message}."
    if verdict is Verdict.FAILED and cables.do:
        message = f"{message}. Plugs: {' '.join(cables.do[:4])}".removesuffix(".")
    if verdict is Verdict.FAILED:
        return f"reseat or replace what differs from the SKU, then return the node to onboard. {message}."
    return f"make the node's agent and BMC reachable (network, cabling, credentials), then return it. {message}."

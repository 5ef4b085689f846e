"""Seatrial as a durable procedure: a node is watched for a while, in-band and out-of-band, against its SKU.

Steps: `observe` (again and again through the window) → `judge`. It only reads: no step here needs a permit. What counts
is what is wrong at the end and what was wrong more than once; a look that could not be taken is no good look. Started
by `driver.py`, collected by `tasks.py`.
"""

from __future__ import annotations

from typing import Any

from ostler.acceptance import policy, service, store
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

_HISTORY = 64
"""Different differences that are remembered per window."""


def procedure(db: Database, settings: AcceptanceSettings, open_bmc: OpenBmc) -> Procedure:
    """The procedure over these ports."""
    trial = _Seatrial(db, settings, open_bmc)
    return Procedure(SEATRIAL, 1, "observe", {"observe": trial.observe, "judge": trial.judge})


class _Seatrial:
    def __init__(self, db: Database, settings: AcceptanceSettings, open_bmc: OpenBmc) -> None:
        self._db = db
        self._settings = settings
        self._open_bmc = open_bmc

    def observe(self, job: JobView) -> StepResult:
        """One look. Waits for a person where there is nothing to look at or to compare with."""
        node, sku = self._db.read(lambda tx: self._present(tx, job))
        if gone(node, State.SEATRIAL, job):
            return Done({"ended": f"the node is in {node.state}"})
        if (lack := self._lack(node, sku)) is not None:
            return Wait(self._settings.observe_s, lack, write=lambda tx: service.hold(tx, node.id, SEATRIAL, lack))
        look, firmware, unreachable = self._look(node, sku)
        history = dict(job.data.get("history", {}))
        for mismatch in look.mismatches:
            if mismatch.message in history or len(history) < _HISTORY:
                history[mismatch.message] = history.get(mismatch.message, 0) + 1
        begun = float(job.data.get("begun", job.now))
        data: dict[str, Any] = {
            "begun": begun,
            "looks": int(job.data.get("looks", 0)) + 1,
            "history": history,
            "last": [mismatch.message for mismatch in look.mismatches],
            "blind": list(look.blind),
            "unreachable": unreachable,
        }
        if firmware:
            data["firmware"] = firmware
        left = begun + self._settings.seatrial_window_s - job.now
        if left <= 0:
            if unreachable and left > -self._settings.bmc_patience_s:
                return Wait(self._settings.observe_s, unreachable, data)
            return Go("judge", data)
        why = f"observing for {left / 60:.0f} min more; {len(look.mismatches)} differences now"

        def note(tx: Tx) -> None:
            service.release(tx, node.id, SEATRIAL)

        return Wait(min(self._settings.observe_s, left), why, data, write=note)

    def judge(self, job: JobView) -> StepResult:
        """Pass on to zap, or to triage with a ticket."""

        def write(tx: Tx) -> None:
            node, sku = self._present(tx, job)
            if gone(node, State.SEATRIAL, job):
                return
            verdict, message = self._verdict(job)
            measured = {
                "sku": None if sku is None else sku.name,
                "looks": job.data["looks"],
                "seconds": job.now - float(job.data["begun"]),
                "differences": job.data["history"],
                "blind": job.data["blind"],
                "firmware": job.data.get("firmware", {}),
            }
            service.conclude(tx, node, SEATRIAL, verdict, measured=measured, message=message)
            if verdict is Verdict.PASSED:
                service.advance(
                    tx, node, State.ZAP, cause="seatrial-passed", reason=message, evidence={"looks": job.data["looks"]}
                )
                return
            service.divert(
                tx,
                node,
                State.TRIAGE,
                cause=f"seatrial-{verdict}",
                reason=message,
                instruction=_instruction(verdict, message),
                evidence=measured,
            )

        return Done(write=write)

    def _verdict(self, job: JobView) -> tuple[Verdict, str]:
        wrong = policy.lasting(job.data["history"], job.data["last"])
        if wrong:
            return Verdict.FAILED, "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        if job.data["unreachable"]:
            return Verdict.INCONCLUSIVE, str(job.data["unreachable"])
        if hidden := self._hidden(job.data["blind"]):
            return Verdict.INCONCLUSIVE, hidden
        return Verdict.PASSED, f"inventory matches in {job.data['looks']} looks"

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


def _instruction(verdict: Verdict, message: str) -> str:
    if verdict is Verdict.FAILED:
        return f"reseat or replace what differs from the SKU, then return the node to onboard. {message}."
    return f"make the node's agent and BMC reachable (network, cabling, credentials), then return it. {message}."

"""Faces of on-call: what pages now, and the door for other alarms. Mounted by `app.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Body, Depends

from ostler.access.api import Authorize
from ostler.access.model import Principal, Role
from ostler.core.clock import iso
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health.model import Diagnosis, HealthSettings
from ostler.oncall import inbound, policy, store
from ostler.oncall.model import OncallSettings


def router(
    db: Database,
    authorize: Authorize,
    settings: OncallSettings,
    health: HealthSettings,
    on_diagnoses: Callable[[Tx, str, list[Diagnosis]], None],
) -> APIRouter:
    """`/v1/pages`, `/v1/alerts` (Alertmanager's webhook), `/api/v2/alerts` (Prometheus as to an Alertmanager)."""
    routes = APIRouter(tags=["oncall"])
    viewer, technician = Depends(authorize(Role.VIEWER)), Depends(authorize(Role.TECHNICIAN))

    @routes.get("/v1/pages", summary="What calls a person now, most urgent first")
    def pages(_who: Principal = viewer) -> dict[str, Any]:
        found = db.read(lambda tx: store.facts(tx, tx.now - settings.held_s))
        items = [
            {
                "key": page.key,
                "urgency": page.urgency,
                "summary": page.summary,
                "labels": dict(page.labels),
                "since": iso(page.since),
            }
            for page in policy.pages(found, settings)
        ]
        return {"items": items, "next": None}

    @routes.post("/v1/alerts", summary="Alerts of an Alertmanager (webhook, version 4) as signals of our nodes")
    def webhook(body: Any = Body(), _who: Principal = technician) -> dict[str, Any]:
        return _take(body)

    @routes.post("/api/v2/alerts", summary="The same from a Prometheus that has Ostler among its Alertmanagers")
    def alertmanager(body: Any = Body(), _who: Principal = technician) -> dict[str, Any]:
        return _take(body)

    def _take(body: Any) -> dict[str, Any]:
        real = db.clock.real()
        read = [inbound.alert_of(one, settings, real) for one in inbound.read(body)]
        alerts = [one for one in read if isinstance(one, inbound.Alert)]

        def use_case(tx: Tx) -> inbound.Taken:
            taken = inbound.take(tx, alerts, health)
            for node_id, diagnoses in taken.diagnoses.items():
                on_diagnoses(tx, node_id, diagnoses)
            return taken

        taken = db.write(use_case)
        refused = [one for one in read if isinstance(one, str)]
        return {"taken": taken.taken, "passed_over": [*refused, *taken.passed_over]}

    return routes

"""The durable procedures of Day 1 in one list. Called by `app.py` for the runner and for the driver."""

from __future__ import annotations

from collections.abc import Mapping

from ostler.acceptance import burn_in, seatrial, zap
from ostler.acceptance.cabling import CablingOf, uncabled
from ostler.acceptance.model import AcceptanceSettings, OpenBmc
from ostler.db.engine import Database
from ostler.jobs.procedure import Procedure


def procedures(
    db: Database, settings: AcceptanceSettings, open_bmc: OpenBmc, cabling_of: CablingOf = uncabled
) -> Mapping[str, Procedure]:
    """Seatrial, zap and test, by name."""
    made = (
        seatrial.procedure(db, settings, open_bmc, cabling_of),
        zap.procedure(db, settings, open_bmc),
        burn_in.procedure(db, settings),
    )
    return {procedure.name: procedure for procedure in made}

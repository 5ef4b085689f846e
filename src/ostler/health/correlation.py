"""Puts `causes.py` to work on the books: who is struck, which incidents are open, what is folded. One transaction.

Called by `remediation` before it decides about a node, and by its sweep.
"""

from __future__ import annotations

from ostler.db.tx import Tx
from ostler.health import causes, findings, store
from ostler.health.model import HealthSettings


def correlate(tx: Tx, settings: HealthSettings) -> list[str]:
    """Fold what many nodes report into incidents, before anything is done about one of them. Returns incident ids."""
    struck = store.struck(tx, tx.now - max(settings.window_s, settings.rollout_s))
    if not struck:
        return []
    late = causes.latecomers(struck, store.open_causes(tx), settings.window_s)
    for incident_id, finding_ids in late.items():
        findings.join(tx, incident_id, finding_ids)
    joined = {finding_id for finding_ids in late.values() for finding_id in finding_ids}
    struck = [one for one in struck if one.finding_id not in joined]
    if len({one.node_id for one in struck}) < 2:
        return []
    return [findings.open_incident(tx, one) for one in causes.fold(struck, store.Serving(tx, struck), settings)]

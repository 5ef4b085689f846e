"""What other alarms say, as signals of our nodes: Alertmanager's webhook, and Prometheus speaking to us as to an
Alertmanager. Called by `api.py`.

Level semantics as everywhere: an alert that fires again and again is one finding, `resolved` (or an `endsAt` in the
past) ends it. An alert that the configuration maps to a fault of `faults/monitored.py` has that fault's action;
any other is shown and watched, never acted on: its author did not know that somebody would reboot for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ostler.core.errors import BadInput
from ostler.db.tx import Tx
from ostler.faults.model import Action, Fault, Kind, Severity
from ostler.faults.monitored import MONITORED, fault
from ostler.health import levels
from ostler.health.model import Diagnosis, HealthSettings
from ostler.nodes import store as nodes
from ostler.oncall.model import OncallSettings

SOURCE = "alerts"
MOST = 1000
"""Alerts of one request."""
_SEVERITIES = {"critical": Severity.ERROR, "page": Severity.ERROR, "error": Severity.ERROR, "info": Severity.INFO}


@dataclass(frozen=True)
class Alert:
    """One alert of one node."""

    node: str
    fault: Fault
    firing: bool


@dataclass(frozen=True)
class Taken:
    """What came of a request: how many alerts were taken, and which were passed over, with the reason."""

    taken: int
    passed_over: tuple[str, ...]
    diagnoses: Mapping[str, list[Diagnosis]]


def check(settings: OncallSettings) -> None:
    """Raises `BadInput` for a mapping to a fault that there is not."""
    for alert, name in settings.alerts.items():
        if not isinstance(name, str) or name not in MONITORED:
            raise BadInput(
                f"'{str(name)[:60]}' is no fault; docs/monitoring.md lists them.", where=f"[oncall.alerts] {alert}"
            )


def read(body: Any) -> list[Mapping[str, Any]]:
    """The alerts of a webhook document (version 4) or of a v2 API list. Raises `BadInput`."""
    alerts = body.get("alerts") if isinstance(body, dict) else body
    if not isinstance(alerts, list) or not all(isinstance(one, dict) for one in alerts):
        raise BadInput("Expected Alertmanager's webhook document or a list of alerts.", where="body")
    if len(alerts) > MOST:
        raise BadInput(f"At most {MOST} alerts in one request.", where="body")
    return alerts


def alert_of(one: Mapping[str, Any], settings: OncallSettings, now: float) -> Alert | str:
    """One alert, or why it cannot be taken."""
    labels = one.get("labels")
    if not isinstance(labels, dict):
        return "an alert without labels"
    texts = {str(key)[:64]: str(value)[:256] for key, value in list(labels.items())[:64]}
    name = texts.get("alertname", "")
    if not name or not name.isprintable():
        return "an alert without a name"
    node = next((texts[label] for label in settings.node_labels if texts.get(label)), "")
    if not node:
        return f"{name}: none of the labels {', '.join(settings.node_labels)} names a node"
    annotations = one.get("annotations")
    said = annotations if isinstance(annotations, dict) else {}
    message = str(said.get("summary") or said.get("description") or name)[:1000]
    return Alert(node, _fault(name, texts, message, settings), _is_firing(one, now))


def take(tx: Tx, alerts: Sequence[Alert], settings: HealthSettings) -> Taken:
    """Enter alerts into the books, node by node. Nodes that we do not know are passed over, and said so."""
    by_node: dict[str, list[Alert]] = {}
    for one in alerts:
        by_node.setdefault(one.node, []).append(one)
    taken, passed_over, diagnoses = 0, [], {}
    for name, said in by_node.items():
        node = _node_id(tx, name)
        if node is None:
            passed_over.append(f"no node is called {name[:80]!r}")
            continue
        raised = [one.fault for one in said if one.firing]
        ended = [one.fault for one in said if not one.firing]
        found = levels.say(tx, node, SOURCE, raised, ended, settings)
        taken += len(said)
        if found:
            diagnoses[node] = found
    return Taken(taken, tuple(passed_over), diagnoses)


def _node_id(tx: Tx, label: str) -> str | None:
    """`gpu-7`, `gpu-7:9400`, `gpu-7.cluster.local`, `gpu-7.cluster.local:9400`."""
    host = label.rsplit(":", 1)[0] if label.count(":") == 1 else label
    for name in dict.fromkeys((label, host, host.partition(".")[0])):
        if (node := nodes.by_name(tx, name)) is not None:
            return node.id
    return None


def _fault(name: str, labels: Mapping[str, str], message: str, settings: OncallSettings) -> Fault:
    device = labels.get("pci_bus_id") or labels.get("device") or labels.get("gpu") or ""
    known = settings.alerts.get(name)
    if known is not None:
        return fault(known, device, message, detail={"alert": name})
    severity = _SEVERITIES.get(labels.get("severity", "").lower(), Severity.WARNING)
    return Fault(
        Kind.OTHER, f"alert-{name[:80]}", device, "node", severity, Action.WATCH, message, detail={"alert": name}
    )


def _is_firing(one: Mapping[str, Any], now: float) -> bool:
    if one.get("status") == "resolved":
        return False
    ends = one.get("endsAt")
    if one.get("status") == "firing" or not isinstance(ends, str) or ends.startswith("0001-"):
        return True
    try:
        return datetime.fromisoformat(ends).timestamp() > now
    except (ValueError, OverflowError):
        return True

"""Settings of on-call, and what may page, as values. The policy maps the one to pages; `watch.py` sends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class OncallSettings:
    """`[oncall]` of the configuration. Whatever is left empty is not used."""

    alertmanager: tuple[str, ...] = ()
    """Base URLs of Alertmanagers; each gets every page by its v2 API."""
    pagerduty: str = ""
    """A reference to an Events API v2 routing key: `env:NAME`, `file:/path`, `store:NAME`."""
    pagerduty_url: str = "https://events.pagerduty.com/v2/enqueue"
    """Where its events go (EU: https://events.eu.pagerduty.com/v2/enqueue)."""
    every_s: float = 15.0
    """How often it is looked what should page (real seconds)."""
    held_s: float = 3600.0
    """The brake holding a decision back for so long is a page (domain seconds)."""
    most: int = 100
    """More single findings than this page as one."""
    deadman_url: str = ""
    """POSTed to while every loop of the server works: who does not hear it calls a person."""
    deadman_s: float = 60.0
    """How often (real seconds)."""
    console_url: str = ""
    """Where people reach the console; pages link to it."""
    node_labels: tuple[str, ...] = ("node", "Hostname", "kubernetes_node", "nodename", "instance")
    """Labels of an inbound alert that may name the node, in this order; a port after the name is dropped."""
    alerts: Mapping[str, str] = field(default_factory=dict)
    """Inbound alert name → fault name (docs/monitoring.md lists them); an unlisted one is shown, never acted on."""

    def __post_init__(self) -> None:
        if self.every_s < 1 or self.deadman_s < 1:
            raise ValueError("every_s and deadman_s are at least 1 s")
        if any(not url.startswith(("http://", "https://")) for url in self.alertmanager):
            raise ValueError("alertmanager is a list of URLs that begin with http:// or https://")


@dataclass(frozen=True)
class OpenIncident:
    """One incident that nobody has closed."""

    id: str
    cause: str
    scope: str
    subject: str
    summary: str
    since: float


@dataclass(frozen=True)
class Unattended:
    """A serious finding that Ostler will do nothing about by itself, and why."""

    id: str
    node: str
    rack: str
    fault: str
    device: str
    fatal: bool
    message: str
    why: str
    since: float


@dataclass(frozen=True)
class Stuck:
    """A job that waits for a person: held for an unknown step, or failed."""

    id: str
    procedure: str
    subject: str
    why: str
    since: float


@dataclass(frozen=True)
class Facts:
    """Everything that may page, as it stands now."""

    incidents: tuple[OpenIncident, ...] = ()
    unattended: tuple[Unattended, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    held: int = 0
    """Nodes whose decision the brake has been holding back for longer than `held_s`."""
    held_since: float = 0.0

"""What the server says happened, read over its public API and held as plain values. For `verdict.py` and `page.py`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from ostler.adapters.fabric.port import Collection
from ostler.demo.story import FABRIC
from ostler.fabric import push
from ostler.twin.enrolment import OperatorApi

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Transition:
    """One change of state. `at` is domain time; `lasted` the domain seconds in the state before."""

    node: str
    start: str | None
    to: str
    cause: str
    reason: str
    at: float
    lasted: float | None


@dataclass(frozen=True)
class Account:
    """Everything the demo judges and shows."""

    states: Mapping[str, str]
    transitions: Sequence[Transition]
    findings: Sequence[Row]
    incidents: Sequence[Row]
    decisions: Sequence[Row]
    tickets: Sequence[Row]
    why: Mapping[str, Row]
    signals: Mapping[str, Sequence[Row]]
    """Of the nodes that were asked for."""
    ids: Mapping[str, str] = field(default_factory=dict)
    """Node id → name."""
    nodes: Mapping[str, Row] = field(default_factory=dict)
    """By name, as `GET /v1/nodes` has them."""
    cases: Sequence[Row] = ()
    """Parts on their way to their makers."""
    pages: Sequence[Row] = ()
    """What calls a person now."""
    bmc_writes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Node → what its BMC was told to do, as the BMC has it."""
    causes: Sequence[Row] = ()
    """What was found wrong with the fabric, as `GET /v1/fabrics/NAME/causes` has it."""
    looks: Sequence[Row] = ()
    """What the server made of each look at the whole fabric, in order."""
    hitches: Sequence[str] = ()
    """Where a ticket could not be carried out as it is written."""

    def of(self, node: str) -> list[Transition]:
        return [one for one in self.transitions if one.node == node]

    def after_production(self, node: str) -> list[Transition]:
        """A node's transitions after it first came into production."""
        moves = self.of(node)
        first = next((number for number, one in enumerate(moves) if one.to == "production"), len(moves))
        return moves[first + 1 :]

    def conditions_of(self, node: str) -> list[str]:
        return [str(one["type"]) for one in self.nodes.get(node, {}).get("conditions", ())]

    def findings_of(self, node: str) -> list[Row]:
        return [row for row in self.findings if self.ids.get(row["node_id"]) == node]

    def decisions_of(self, node: str, verdict: str | None = None) -> list[Row]:
        found = [row for row in self.decisions if self.ids.get(row["node_id"]) == node]
        return [row for row in found if verdict in (None, row["verdict"])]

    def acted(self, nodes: Iterable[str], fault: str) -> list[Row]:
        """What was done to any of these nodes about one fault."""
        return [row for node in nodes for row in self.decisions_of(node, "act") if row["fault"] == fault]

    def cable_tickets_of(self, node: str) -> list[Row]:
        """Those about its plugs."""
        return [row for row in self.tickets_of(node) if row["subject"] == "cable"]

    def tickets_of(self, node: str) -> list[Row]:
        return [row for row in self.tickets if self.ids.get(str(row["node_id"])) == node]


class Server:
    """The operators' API, as the demo asks it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._api = OperatorApi(url, token)

    def technician(self, name: str) -> Server:
        """The same server, asked by somebody who may take tickets and little else."""
        made = self._api.call("POST", "/v1/tokens", {"name": name, "role": "technician", "reason": "the demo's story"})
        return Server(self._url, str(made["secret"]))

    def subscribe(self, url: str, secret: str) -> str:
        """A webhook for every event; its id."""
        return str(self._api.call("POST", "/v1/webhooks", {"url": url, "events": ["*"], "secret": secret})["id"])

    def undelivered(self, webhook: str) -> int:
        """Deliveries that are still under way."""
        pages = (self._items(f"/v1/webhooks/{webhook}/deliveries", state=state) for state in ("queued", "due"))
        return sum(1 for items in pages for _ in items)

    def nodes(self) -> list[Row]:
        return list(self._items("/v1/nodes"))

    def transitions(self) -> list[Transition]:
        """All of them, in the ledger's order."""
        rows = []
        cursor: str | None = None
        while True:
            page = self._page("/v1/events", type="node.state_changed", limit="1000", after=cursor)
            rows += page["items"]
            if page.get("next") is None:
                break
            cursor = page["next"]
        found: list[Transition] = []
        since: dict[str, float] = {}
        for row in rows:
            data, at = row["data"], seconds(row["time"])
            name = str(data.get("node_name") or data["node_id"])
            before = since.get(name)
            lasted = None if before is None else at - before
            since[name] = at
            reason = str(data.get("reason") or "")
            found.append(Transition(name, data.get("from"), data["to"], str(data.get("cause")), reason, at, lasted))
        return found

    def request_replacement(self, node: str, device: str, reason: str) -> None:
        """What a person does with a GPU that goes back: a case for its maker."""
        body = {"part": "gpu", "name": device, "reason": reason}
        self._api.call("POST", f"/v1/nodes/{quote(node)}/replacement", body)

    # ── the fabric and its tickets ──────────────────────────────────────────────────────────────────────────────────

    def import_blueprint(self, design: str) -> None:
        """The design of the fabric, as `ostler fabric import` sends it."""
        said = urlencode({"name": "design.csv", "reason": "the design that the fleet is cabled by"})
        self._api.call("PUT", f"/v1/fabrics/{FABRIC}/blueprint?{said}", file=design.encode())

    def look_wanted(self) -> str | None:
        """Why the server wants a look at the fabric now, or None: what a collector asks."""
        said = self._page(f"/v1/fabrics/{FABRIC}/look")
        return str(said["why"]) if said["wanted"] else None

    def looked(self, collection: Collection) -> Row:
        """Sends what a collector saw; what the server makes of it."""
        body = push.packed(collection, time.time())
        report: Row = self._api.call("POST", f"/v1/fabrics/{FABRIC}/snapshots", body)["report"]
        return report

    def cable_tickets(self, state: str) -> list[Row]:
        """Work on plugs that is in this state."""
        return list(self._items("/v1/tickets", subject="cable", state=state))

    def ticket(self, ticket: str) -> Row:
        """All that it says."""
        return self._page(f"/v1/tickets/{ticket}")

    def claim(self, ticket: str) -> None:
        self._api.call("POST", f"/v1/tickets/{ticket}/claim", {})

    def done(self, ticket: str, evidence: str) -> None:
        self._api.call("POST", f"/v1/tickets/{ticket}/done", {"evidence": evidence})

    def move(self, node: str, to: str, reason: str) -> None:
        """A person moves a node."""
        self._api.call("POST", f"/v1/nodes/{quote(node)}/transition", {"to": to, "reason": reason})

    def account(
        self, signals_of: Sequence[str], bmc_writes: Mapping[str, Sequence[str]], *, chains: bool = True
    ) -> Account:
        """Everything that it knows; without `chains` it leaves out the why of each node, which is a request each."""
        nodes = self.nodes()
        names = [str(row["name"]) for row in nodes]
        return Account(
            states={str(row["name"]): str(row["state"]) for row in nodes},
            transitions=self.transitions(),
            findings=list(self._items("/v1/findings", active="false")),
            incidents=list(self._items("/v1/incidents")),
            decisions=list(self._items("/v1/decisions"))[::-1],
            tickets=list(self._items("/v1/tickets")),
            why={name: self._page(f"/v1/nodes/{quote(name)}/why") for name in names if chains},
            signals={name: list(self._items(f"/v1/nodes/{quote(name)}/signals")) for name in signals_of},
            ids={str(row["id"]): str(row["name"]) for row in nodes},
            nodes={str(row["name"]): row for row in nodes},
            cases=list(self._items("/v1/rma")),
            pages=self._page("/v1/pages")["items"],
            bmc_writes=bmc_writes,
            causes=list(self._items(f"/v1/fabrics/{FABRIC}/causes")),
        )

    def _items(self, path: str, **query: str | None) -> Iterator[Row]:
        after: str | None = None
        while True:
            page = self._page(path, **query, limit="1000", after=after)
            yield from page["items"]
            after = page.get("next")
            if after is None:
                return

    def _page(self, path: str, **query: str | None) -> dict[str, Any]:
        said = urlencode({name: value for name, value in query.items() if value is not None})
        return self._api.call("GET", f"{path}?{said}" if said else path)


def seconds(text: str) -> float:
    """An RFC 3339 time as UTC seconds."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

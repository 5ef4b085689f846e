"""What the server says happened, read over its public API and held as plain values. For `verdict.py` and `page.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

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

    def of(self, node: str) -> list[Transition]:
        return [one for one in self.transitions if one.node == node]

    def findings_of(self, node: str) -> list[Row]:
        return [row for row in self.findings if self.ids.get(row["node_id"]) == node]

    def decisions_of(self, node: str) -> list[Row]:
        return [row for row in self.decisions if self.ids.get(row["node_id"]) == node]


class Server:
    """The operators' API, as the demo asks it."""

    def __init__(self, url: str, token: str) -> None:
        self._api = OperatorApi(url, token)

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

    def account(self, signals_of: Sequence[str], *, chains: bool = True) -> Account:
        """Everything; without `chains` it leaves out the why of each node, which is a request each."""
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

"""Enters a simulated fleet into the server's books over the operators' API, as an operator would his inventory.

Called by `ostler twin --api`; without it unknown machines discover themselves by booting. Also asks how many are in
production, which starts a script's clock, and takes machines that run already in as a customer's would be: adopted
from a CSV, each agent with a seed by hand.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ostler.core.errors import BadInput, Forbidden, OstlerError, Permanent, Unauthenticated, Unavailable, Unreachable
from ostler.twin.spec import SKU, NodeSpec, sku_document
from ostler.wire.boot import Seed
from ostler.wire.decode import decode

TIMEOUT_S = 60.0
BATCH = 500
"""Nodes per request."""
_REASON = "a simulated fleet"


class OperatorApi:
    """One address and one token."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"'{url[:200]}' is no address of a server; write http://HOST:PORT", where="--api")
        self._url = url.rstrip("/")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._token = token

    def enrol(self, specs: Sequence[NodeSpec], bmc_addresses: Mapping[str, str], *, pool: str = "default") -> None:
        """Declares the SKU and enters every machine with its place and BMC. Safe to repeat. Raises `OstlerError`."""
        self.call("PUT", f"/v1/skus/{SKU}", {"sku": sku_document(), "reason": _REASON})
        for start in range(0, len(specs), BATCH):
            rows = [_row(spec, bmc_addresses.get(spec.name), pool) for spec in specs[start : start + BATCH]]
            self.call("POST", "/v1/expected-nodes", {"nodes": rows, "reason": _REASON})

    def adopt(self, specs: Sequence[NodeSpec], bmc_addresses: Mapping[str, str], *, pool: str) -> dict[str, Seed]:
        """Takes running machines into the books, as `ostler adopt FILE` does, and gets a seed for each one's agent.

        Returns name → seed. Raises `OstlerError`.
        """
        lines = ["name,serial,slot,macs,bmc"]
        lines += [f"{one.name},{one.serial},{one.slot},{one.mac},{bmc_addresses[one.name]}" for one in specs]
        body = {"source": "running.csv", "csv": "\n".join(lines), "pool": pool, "reason": _REASON, "dry_run": False}
        while self.call("POST", "/v1/adopt", body)["remaining"]:
            pass
        why = {"reason": "its agent, by hand"}
        return {
            one.name: decode(Seed, json.dumps(self.call("POST", f"/v1/nodes/{one.name}/seed", why)).encode())
            for one in specs
        }

    def in_production(self, specs: Sequence[NodeSpec]) -> int:
        """How many of these machines are in production now."""
        names = {spec.name for spec in specs}
        found, after = 0, ""
        while True:
            query = f"&after={after}" if after else ""
            page = self.call("GET", f"/v1/nodes?state=production&limit=1000{query}")
            items = page.get("items", [])
            found += sum(1 for item in items if item.get("name") in names)
            after = str(page.get("next") or "")
            if not after or not items:
                return found

    def call(self, method: str, path: str, body: Any = None, *, file: bytes | None = None) -> dict[str, Any]:
        """One request, with a JSON body or a file as it is; the JSON object of the answer.

        Raises `OstlerError` with the server's own words.
        """
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        try:
            kind_of_body = "application/json" if file is None else "application/octet-stream"
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind_of_body}
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent if file is None else file, headers)
            response = connection.getresponse()
            raw = response.read(64 << 20)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"the server does not answer ({error})", where=self._url) from None
        finally:
            connection.close()
        try:
            answer = json.loads(raw) if raw else {}
        except (ValueError, RecursionError):
            answer = {}
        if not isinstance(answer, dict):
            answer = {}
        if response.status >= 400:
            raise _error(response.status, str(answer.get("detail") or response.reason), f"{self._url}{path}")
        return answer


def _row(spec: NodeSpec, bmc: str | None, pool: str) -> dict[str, Any]:
    row: dict[str, Any] = {"name": spec.name, "macs": [spec.mac], "serial": spec.serial, "pool": pool, "sku": SKU}
    row |= {"slot": spec.slot, "domains": {"fabric": spec.fabric}}
    return row if bmc is None else {**row, "bmc_address": bmc}


def _error(status: int, detail: str, where: str) -> OstlerError:
    if status >= 500:
        return Unavailable(detail, where=where)
    kinds: Mapping[int, type[Permanent]] = {401: Unauthenticated, 403: Forbidden, 400: BadInput, 422: BadInput}
    return kinds.get(status, Permanent)(detail, where=where)

"""Asks the user's Prometheus what is wrong with GPUs and reports it as levels. A schedule calls `PrometheusWatch.look`.

Silence never heals: where Prometheus does not answer nothing changes; where a node's series end, that is a finding
under a source of its own, and what stood before stands on. More than a share of the nodes silent together is
Prometheus' trouble, or the exporters' rollout, and no node is blamed for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import sqlalchemy as sa
import structlog

from ostler.core.errors import Temporary, Unavailable, Unreachable
from ostler.db.engine import Database
from ostler.db.schema import node as node_table
from ostler.db.tx import Tx
from ostler.faults.model import Fault
from ostler.health import prometheus_rules as rules
from ostler.nodes.model import State

SOURCE = "prometheus"
SILENCE_SOURCE = "prometheus-silence"
_PER_TRANSACTION = 200
_MOST_BYTES = 64 << 20
"""An answer about 80,000 GPUs has some 10 MB."""
_LABEL_LIMIT = 256
_log = structlog.get_logger()

T = TypeVar("T")
Report = tuple[str, str, tuple[Fault, ...]]
Observe = Callable[[Tx, str, str, Sequence[Fault]], object]
"""(tx, node id, source, every fault that stands now): `levels.converge` with its settings bound."""


@dataclass(frozen=True)
class PrometheusSettings:
    """`[prometheus]` of the configuration."""

    url: str = ""
    """The user's Prometheus (or what speaks its HTTP API: Thanos, Mimir, VictoriaMetrics); empty: not asked."""
    node_label: str = "Hostname"
    """The label of dcgm-exporter's series that names the node; its value is the node's name, or begins with it."""
    every_s: float = 60.0
    """How often to ask, in real seconds."""
    timeout_s: float = 20.0
    """How long one question may take, in real seconds."""
    silent_after_s: float = 300.0
    """A GPU whose series ended so long ago (Prometheus' time) is silent; well above the scrape interval."""
    silent_share: float = 0.05
    """More of the nodes silent together, and no node is blamed (DESIGN, principle 5)."""
    token_file: str = ""
    """A file with a bearer token, read at each look; empty: none."""
    ca_file: str = ""
    """The certificate authority of an https URL; empty: the system's."""

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("url of Prometheus begins with http:// or https://")
        label = self.node_label
        if not (label.isascii() and label.isidentifier()):
            raise ValueError("node_label is a label's name: letters, digits and underscores")
        if self.every_s < 5 or not 1 <= self.timeout_s <= 300:
            raise ValueError("every_s is at least 5, and timeout_s from 1 to 300 seconds")
        if not 1 <= self.silent_after_s <= 3000 or not 0 < self.silent_share <= 1:
            raise ValueError("silent_after_s is from 1 to 3000 seconds, and silent_share above 0 and at most 1")


class Prometheus:
    """A client for instant queries."""

    def __init__(self, settings: PrometheusSettings, *, most_bytes: int = _MOST_BYTES) -> None:
        self._settings = settings
        self._where = f"prometheus {settings.url}"
        self._most_bytes = most_bytes
        self._http = httpx2.Client(
            timeout=httpx2.Timeout(settings.timeout_s, connect=min(5.0, settings.timeout_s)),
            follow_redirects=False,
            trust_env=False,
            verify=_verify(settings),
        )

    def ask(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """The series of an instant vector, with labels. Raises `Temporary` for anything but a whole, sane answer."""
        settings = self._settings
        headers = {"accept": "application/json"}
        if settings.token_file:
            headers["authorization"] = f"Bearer {self._token()}"
        body = {"query": query, "timeout": f"{settings.timeout_s:g}s"}
        url = settings.url.rstrip("/") + "/api/v1/query"
        try:
            with self._http.stream("POST", url, data=body, headers=headers) as answer:
                status, content = answer.status_code, self._bounded(answer)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unreachable(f"It does not answer: {why}.", where=self._where) from None
        except httpx2.InvalidURL:
            raise Unreachable("This is no URL: see [prometheus] url.", where=self._where) from None
        return self._series(status, content)

    def close(self) -> None:
        self._http.close()

    def _token(self) -> str:
        try:
            return Path(self._settings.token_file).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"Its token cannot be read: {error}", where=self._where) from None

    def _bounded(self, answer: httpx2.Response) -> bytes:
        content = bytearray()
        for chunk in answer.iter_bytes(1 << 16):
            content += chunk
            if len(content) > self._most_bytes:
                raise Unavailable(f"Its answer is longer than {self._most_bytes >> 20} MiB.", where=self._where)
        return bytes(content)

    def _series(self, status: int, content: bytes) -> list[tuple[Mapping[str, str], float]]:
        try:
            said = json.loads(content)
            if status != 200 or said["status"] != "success":
                why = f"{said.get('errorType', 'error')}: {said.get('error', '')}" if isinstance(said, dict) else "?"
                raise self._no_answer(status, why)
            data = said["data"]
            if data["resultType"] != "vector":
                raise self._no_answer(status, f"a {str(data['resultType'])[:40]} where a vector was expected")
            return [_one(series) for series in data["result"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._no_answer(
                status, "no answer of a Prometheus: " + content[:120].decode("utf-8", "replace")
            ) from None

    def _no_answer(self, status: int, why: str) -> Temporary:
        clean = "".join(c if c.isprintable() else " " for c in why[:400])
        return Unavailable(f"It cannot answer (HTTP {status}): {' '.join(clean.split())[:240]}", where=self._where)


def _verify(settings: PrometheusSettings) -> Any:
    if not settings.ca_file:
        return True
    import ssl

    return ssl.create_default_context(cafile=settings.ca_file)


def _one(series: Any) -> tuple[Mapping[str, str], float]:
    labels, (_at, value) = series["metric"], series["value"]
    found = {name: text for name, text in labels.items() if isinstance(text, str) and len(text) <= _LABEL_LIMIT}
    if not isinstance(value, str):
        raise ValueError("a value is a text")
    return found, float(value)


class PrometheusWatch:
    """Level by level; one replica at a time through its schedule's lease."""

    def __init__(self, db: Database, settings: PrometheusSettings, observe: Observe) -> None:
        self._db = db
        self._settings = settings
        self._observe = observe
        self._client = Prometheus(settings)
        self._known: dict[str, set[str]] | None = None
        """Node id → devices that ever spoke, as far as this process knows: an hour back at its start."""
        self._found: dict[str, tuple[Fault, ...]] = {}
        self._silence: dict[str, tuple[Fault, ...]] = {}
        self._well: set[tuple[str, str]] = set()
        """(node id, source) of which nothing stands in the books."""

    def standing(self, node_id: str) -> tuple[Fault, ...]:
        """What stood against a node at the last look, its silence included."""
        return (*self._found.get(node_id, ()), *self._silence.get(node_id, ()))

    def look(self) -> None:
        """One round. Raises `Temporary` if Prometheus does not answer everything; then nothing has changed."""
        label = self._settings.node_label
        before = rules.gpus(self._client.ask, "1h", label) if self._known is None else {}
        spoke = rules.gpus(self._client.ask, f"{self._settings.silent_after_s:.0f}s", label)
        first = rules.gpus(self._client.ask, "", label)
        said = rules.faults_of(rules.ask_all(self._client.ask, label))
        last = rules.gpus(self._client.ask, "", label)
        ours = self._db.read(_ids_by_name)
        now, found = _by_node(spoke, ours), _by_node(said, ours)
        # Only who spoke before and after the rules were asked was looked at by all of them.
        begun, ended = _by_node(first, ours), _by_node(last, ours)
        looked_at = {node_id: set(begun[node_id]) & set(ended.get(node_id, ())) for node_id in begun}
        ids = set(ours.values())
        # What has left is forgotten with its node.
        known = {node_id: devices for node_id, devices in (self._known or {}).items() if node_id in ids}
        for heard in (_by_node(before, ours), now):
            for node_id, devices in heard.items():
                known.setdefault(node_id, set()).update(devices)
        self._known = known
        covered = rules.coverage(known, {node_id: set(devices) for node_id, devices in now.items()})
        together = len(covered.silent) > max(1, self._settings.silent_share * len(known))
        if together:
            _log.warning(
                "prometheus lost many nodes together; none is blamed", silent=len(covered.silent), known=len(known)
            )
        reports: list[Report] = []
        for node_id in sorted(known):
            if speaking := looked_at.get(node_id):
                # A GPU that does not speak keeps what stood against it: a pause in its series heals nothing.
                kept = [one for one in self._found.get(node_id, ()) if one.device not in speaking]
                self._found[node_id] = (*(one for one in found.get(node_id, ()) if one not in kept), *kept)
                reports.append((node_id, SOURCE, self._found[node_id]))
            if not (together and node_id in covered.silent):
                was = self._silence.get(node_id, ())
                self._silence[node_id] = rules.silence_of(node_id, covered, was)
                reports.append((node_id, SILENCE_SOURCE, self._silence[node_id]))
        # A healthy fleet is not written about: what was well and is well is no report.
        news = [report for report in reports if report[2] or report[:2] not in self._well]
        for start in range(0, len(news), _PER_TRANSACTION):
            batch = news[start : start + _PER_TRANSACTION]
            self._db.write(partial(self._report, batch))
            for node_id, source, faults in batch:
                (self._well.discard if faults else self._well.add)((node_id, source))

    def _report(self, reports: Sequence[Report], tx: Tx) -> None:
        for node_id, source, faults in reports:
            self._observe(tx, node_id, source, faults)

    def close(self) -> None:
        self._client.close()


def _ids_by_name(tx: Tx) -> dict[str, str]:
    query = sa.select(node_table.c.name, node_table.c.id).where(node_table.c.state != State.RETIRED.value)
    return {row["name"]: row["id"] for row in tx.all(query)}


def node_of(said: str, ours: Mapping[str, str]) -> str | None:
    """The node that a label's value names: its name, with or without a domain, with or without a port."""
    for name in (said, said.rsplit(":", 1)[0], said.split(".", 1)[0]):
        if name in ours:
            return ours[name]
    return None


def _by_node(said: Mapping[str, Iterable[T]], ours: Mapping[str, str]) -> dict[str, list[T]]:
    """By node id instead of by the label's value; what names none of our nodes is left out."""
    found: dict[str, list[T]] = {}
    for name, what in said.items():
        if (node_id := node_of(name, ours)) is not None:
            found.setdefault(node_id, []).extend(what)
    return found

"""Walking a Redfish tree without trusting it: links, collections, the choice of the host system. Used by `redfish.py`.

Real firmware violates its own schemas (45 times in one recorded tree): a missing or odd property is nothing, never an
error. What a tree links to and then does not serve is remembered, so that "no GPUs" and "could not read the GPUs" stay
different things.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ostler.adapters.bmc.port import Health
from ostler.adapters.bmc.redfish_transport import printable
from ostler.adapters.bmc.redfish_wire import Wire
from ostler.core.errors import BadInput, NotFound, Unavailable, Unreachable

Document: TypeAlias = Mapping[str, Any]

ROOT = "/redfish/v1/"
_HEALTH = {"ok": Health.OK, "warning": Health.WARNING, "critical": Health.CRITICAL}
_NOTHING: Document = {}
_BROKEN_PROMISES = 3
"""Collections that a service could not expand before it is not believed for the rest of the conversation."""


def child(document: Document, *keys: str) -> Document:
    """The nested object at `keys`; empty when anything on the way is missing or no object."""
    at: Any = document
    for key in keys:
        at = at.get(key) if isinstance(at, dict) else None
    return at if isinstance(at, dict) else _NOTHING


def children(document: Document, *keys: str) -> tuple[Document, ...]:
    """The objects in the list at `keys`."""
    parent = child(document, *keys[:-1])
    found = parent.get(keys[-1])
    return tuple(item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()


def text(document: Document, key: str, limit: int = 200) -> str:
    """A string, stripped and printable; empty when it is none."""
    return printable(document.get(key), limit)


def texts(document: Document, key: str) -> tuple[str, ...]:
    """The strings in a list."""
    found = document.get(key)
    return tuple(printable(item) for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def number(document: Document, key: str) -> float | None:
    """A finite number. Some services write numbers as strings; booleans are none."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(document: Document, key: str) -> int | None:
    found = number(document, key)
    return None if found is None else int(found)


def link(document: Document, *keys: str) -> str | None:
    """The path that a link (`{"@odata.id": …}`) leads to, when it stays within this service."""
    return path_of(child(document, *keys))


def path_of(document: Document) -> str | None:
    path = document.get("@odata.id")
    if not isinstance(path, str) or not path.startswith("/redfish/") or len(path) > 500:
        return None
    plain = path.isprintable() and " " not in path and "//" not in path and ".." not in path.split("/")
    return path if plain else None


def name_of(path: str) -> str:
    """The last part of a path: what Redfish calls the Id."""
    return path.partition("#")[0].rstrip("/").rsplit("/", 1)[-1]


def health(document: Document) -> Health:
    return _HEALTH.get(text(child(document, "Status"), "Health").lower(), Health.UNKNOWN)


@dataclass(slots=True)
class Quirks:
    """How one service answers, as one conversation has learnt it."""

    expands: bool | None = None
    """Whether it says that it sends members along ($expand); None: not asked yet."""
    plain: set[str] = field(default_factory=set)
    """Collections where it said so and could not."""


class Tree:
    """One operation's view of the service: each resource is read once, the number and the time are bounded."""

    def __init__(self, wire: Wire, quirks: Quirks) -> None:
        self._wire = wire
        self._quirks = quirks
        self._read: dict[str, Document] = {}
        self._deadline = time.monotonic() + wire.limits.operation_seconds
        self._expands = True
        self.unread: list[str] = []
        """Paths that the service links to but did not serve."""

    def get(self, path: str) -> Document:
        """The resource at `path`, from this operation's memory the second time."""
        known = self._read.get(path.rstrip("/"))
        if known is not None:
            return known
        if len(self._read) >= self._wire.limits.resources:
            raise BadInput(
                f"The tree has more than {self._wire.limits.resources} resources; it may be endless.",
                where=self._wire.address,
            )
        if time.monotonic() > self._deadline:
            raise Unreachable(
                f"Reading took longer than {self._wire.limits.operation_seconds:g} s.", where=self._wire.address
            )
        document = self._wire.get(path).document
        self._read[path.rstrip("/")] = document
        return document

    def find(self, path: str | None) -> Document:
        """Like `get` for what may be missing: empty when there is no link or the service fails to serve it."""
        if path is None:
            return _NOTHING
        try:
            return self.get(path)
        except (NotFound, Unavailable, BadInput) as error:
            if isinstance(error, BadInput) and len(self._read) >= self._wire.limits.resources:
                raise
            if path not in self.unread:
                self.unread.append(path)
            return _NOTHING

    def members(self, path: str | None) -> Iterator[tuple[str, Document]]:
        """(path, document) of each member of a collection, over all its pages; no member twice.

        Asks the service to send the members along where it says that it can ($expand); that saves hundreds of calls.
        A member that cannot be read comes as an empty document and stands in `unread`.
        """
        seen_pages: set[str] = set()
        seen: set[str] = set()
        page = path
        while page is not None and page not in seen_pages:
            seen_pages.add(page)
            document = self._expanded(page)
            for item in children(document, "Members"):
                where = path_of(item)
                if where is None or where in seen:
                    continue
                seen.add(where)
                if len(item) > 1:
                    self._read.setdefault(where.rstrip("/"), item)
                    yield where, item
                else:
                    yield where, self.find(where)
            following = document.get("Members@odata.nextLink")
            page = path_of({"@odata.id": following})

    def _expanded(self, path: str) -> Document:
        quirks = self._quirks
        if quirks.expands is None:
            expand = child(self.get(ROOT), "ProtocolFeaturesSupported", "ExpandQuery")
            quirks.expands = expand.get("NoLinks") is True
        if not (self._expands and quirks.expands) or "?" in path or path in quirks.plain:
            return self.find(path)
        try:
            return self.get(f"{path}?$expand=.($levels=1)")
        except (NotFound, Unavailable, BadInput):
            self._expands = False  # it promised and cannot: plain reading for the rest of this operation
        document = self.find(path)
        if document:
            quirks.plain.add(path)
            quirks.expands = len(quirks.plain) < _BROKEN_PROMISES
        return document


def host_system(tree: Tree, address: str) -> tuple[str, Document]:
    """The path and document of the system that boots the operating system, by its role.

    A GPU server's BMC shows more than one: `System_0` is the host, `HGX_Baseboard_0` the GPU board, a DPU may be a
    third; their order means nothing. The host can be reset, has boot settings, and is no baseboard.
    """
    systems = [(path, doc) for path, doc in tree.members(link(tree.get(ROOT), "Systems")) if doc]
    if not systems:
        raise BadInput("The service shows no computer system.", where=address)
    ranked = sorted(systems, key=lambda item: _host_rank(*item), reverse=True)
    if len(ranked) > 1 and _host_rank(*ranked[0]) == _host_rank(*ranked[1]):
        names = ", ".join(name_of(path) for path, _ in ranked[:4])
        raise BadInput(f"Several systems look like the host ({names}); none was chosen.", where=address)
    return ranked[0]


def _host_rank(path: str, system: Document) -> tuple[bool, bool, bool, bool]:
    board = "baseboard" in name_of(path).lower() or name_of(path).lower().startswith("hgx")
    physical = text(system, "SystemType").lower() in ("", "physical")
    resets = bool(child(system, "Actions", "#ComputerSystem.Reset"))
    boots = bool(text(child(system, "Boot"), "BootSourceOverrideTarget") or "Bios" in system)
    return (not board, physical, resets, boots)

"""What a simulated BMC's documents are made of: links, collections, status. Used by `bmc_tree` and `bmc_chassis`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

V1 = "/redfish/v1"


def link(*parts: str) -> dict[str, str]:
    return {"@odata.id": "/".join((V1, *parts))}


def collection(kind: str, at: tuple[str, ...], names: Iterable[str]) -> dict[str, Any]:
    members = [link(*at, name) for name in names]
    return {
        "@odata.type": f"#{kind}Collection.{kind}Collection",
        "Members": members,
        "Members@odata.count": len(members),
    }


def ok(health: str = "OK", state: str = "Enabled") -> dict[str, str]:
    return {"Health": health, "State": state}
